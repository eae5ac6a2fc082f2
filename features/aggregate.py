"""Stage: daily statistics and recent items of users and items, from the past only."""

from pathlib import Path

from common import params, stage
from common.files import replacing_folder
from features.schema import read_schema, to_json


def aggregate(*, schema: Path, validated: Path, out: Path) -> None:
    """Write `<view>.parquet` and views.json under `out` from the events, users and items under `validated`."""
    from features.engine.connection import connect
    from features.engine.daily_statistics import open_events, write_view
    from features.engine.feature_views import feature_views

    declared, settings = read_schema(schema), params.load().aggregate
    views = feature_views(declared, settings)
    with replacing_folder(out) as partial, connect(partial / "spill") as connection:
        (partial / "views.json").write_text(to_json(views), encoding="utf-8")
        open_events(connection, declared, validated)
        for view in views:
            rows = write_view(connection, declared, view, settings, partial / f"{view.name}.parquet")
            print(f"{view.name}: {rows:,} snapshots of {len(view.columns)} features", flush=True)


if __name__ == "__main__":
    stage.run(aggregate)
