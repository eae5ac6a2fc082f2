"""Command: Great Expectations on the features as served against the features recomputed offline; a quality gate.

    python -m features.inspect_served --served data/feedback/served --schema data/schema.json --features data/features
        --first-day 2026-01-17 --last-day 2026-01-17 --out artifacts/flows/served

Exit status: 0 the gate is open, or nothing was served on these days; 1 it is closed, or the command failed.
"""

from datetime import date, timedelta
from pathlib import Path

from common import params, stage
from common.run_identity import this_run
from features.schema import read_schema, read_views

REPORT, BOTH = "report.json", "both.parquet"


def inspect_served(
    *,
    served: Path,
    schema: Path,
    features: Path,
    first_day: date,
    last_day: date,
    out: Path,
    received: Path | None = None,
) -> None:
    """Compare the features as served with those of the offline store as of the time of the request.

    `out` gets report.json, docs/ and both.parquet, which has both values of each feature side by side. Raises
    ValidationError where more values of a feature differ than `feedback.tolerance` allows.

    Args:
        served: folder of the features as served by day, as `serving.collect` writes it.
        schema: declaration of the data set.
        features: folder of the views (the offline store).
        first_day: first day (UTC) of the events.
        last_day: last day (UTC) of the events, included.
        out: folder that is written.
        received: folder of the received events by day, from which sessions are recomputed; default: beside `served`.
    """
    from features.quality import gate
    from features.quality.served_features import GATE, check_served

    declared, views = read_schema(schema), read_views(features / "views.json")
    (out / REPORT).unlink(missing_ok=True)  # that of an earlier run: where this one fails there is none
    days = [first_day + timedelta(days=number) for number in range((last_day - first_day).days + 1)]
    files = [path for day in days for path in sorted((served / f"day={day}").glob("*.parquet"))]
    suites = []
    if files:
        settings = params.load().feedback
        events = sorted((received or served.parent / "received").glob("day=*/*.parquet"))
        suites = check_served(
            declared, views, files=files, received=events, features=features, settings=settings, out=out / BOTH
        )
    else:
        print(f"{served} has no features that were served from {first_day} to {last_day}", flush=True)
    gate.enforce(
        GATE,
        suites,
        name=declared.name,
        compared=(served, features),
        report=out / REPORT,
        docs=out / "docs",
        run=this_run(None),
    )


if __name__ == "__main__":
    stage.run(inspect_served)
