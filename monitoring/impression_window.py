"""Command: scored impressions of the service, with the labels that came later, as a window for `monitoring.drift`.

python -m monitoring.impression_window --log DIR --events data/validated/events --schema data/schema.json
    --views data/features/views.json --first-day 2026-01-17 --last-day 2026-01-18 --out served.parquet
"""

from datetime import date
from pathlib import Path

from common import stage


def impression_window(
    *,
    log: Path,
    events: Path,
    schema: Path,
    views: Path,
    first_day: date,
    last_day: date,
    out: Path,
    match_minutes: float = 60,
    arm: str | None = None,
) -> None:
    """Write the impressions scored on these days (UTC), with the labels that have arrived, to the Parquet file `out`.

    Args:
        log: the scored-impression log of the service.
        events: accepted events, a folder per day.
        schema: schema.json of the data set.
        views: views.json of the features.
        first_day: first day of the window.
        last_day: last day of the window, included.
        out: the Parquet file, a `--current` of monitoring.drift.
        match_minutes: an event belongs to an impression that was scored at most this long before it.
        arm: only what this arm of an A/B test answered: `champion` or `challenger`.
    """
    from features.schema import read_schema, read_views
    from monitoring.detection.served_window import write_served_window

    out.unlink(missing_ok=True)  # the window of an earlier run: where this one fails there is none
    rows, labelled = write_served_window(
        log,
        events,
        read_schema(schema),
        read_views(views),
        first_day=first_day,
        last_day=last_day,
        out=out,
        match_minutes=match_minutes,
        arm=arm,
    )
    print(f"served: {rows:,} scored items from {first_day} to {last_day}, {labelled:,} of them with an event -> {out}")


if __name__ == "__main__":
    stage.run(impression_window)
