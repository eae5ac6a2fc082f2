"""Stage: daily statistics and recent items of users and items, from the past only."""

from pathlib import Path

from common import params, stage
from common.files import replacing_folder
from features.schema import read_schema, to_json


def aggregate(*, schema: Path, validated: Path, out: Path) -> None:
    """Write `<view>.parquet` and views.json under `out` from the events, users and items under `validated`."""
    from features.engine.daily_statistics import open_events, write_view
    from features.engine.engines import open_engine
    from features.engine.feature_views import feature_views
    from features.session.offline import write_states

    declared, parameters = read_schema(schema), params.load()
    settings = parameters.aggregate
    views = feature_views(declared, settings)
    with replacing_folder(out) as partial, open_engine(parameters.engine, partial / "spill") as engine:
        (partial / "views.json").write_text(to_json(views), encoding="utf-8")
        open_events(engine, declared, validated)
        for view in views:
            path = partial / f"{view.name}.parquet"
            if view.session is None:
                rows = write_view(engine, declared, view, settings, path)
            else:
                rows = write_states(declared, view, events=validated / "events", out=path, scratch=partial / "spill")
            print(f"{view.name}: {rows:,} snapshots of {len(view.columns)} features", flush=True)


if __name__ == "__main__":
    stage.run(aggregate)
