"""Stage: impressions with the features as of their timestamp (Feast), split into train, valid and test."""

from pathlib import Path

from common import params, stage
from features.schema import read_schema, read_views


def join(*, schema: Path, validated: Path, features: Path, out: Path) -> None:
    """Write train.parquet, valid.parquet and test.parquet under `out`; raises JoinError if a row is lost."""
    from features.store.training_rows import write_training_set

    declared, views = read_schema(schema), read_views(features / "views.json")
    written = write_training_set(
        declared, views, params.load(), events=validated / "events", features=features, out=out
    )
    print("joined " + ", ".join(f"{name} {rows:,}" for name, rows in written.items()) + " impressions", flush=True)


if __name__ == "__main__":
    stage.run(join)
