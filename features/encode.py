"""Stage: the training set -> encoder and memory-mapped tensors."""

from pathlib import Path

from common import params, stage
from common.params import Encode
from features.encoding.encoder import Encoder
from features.encoding.tensors import write_tensors
from features.schema import Column, Schema, View, inputs, read_schema, read_views


def encode(*, schema: Path, views: Path, training: Path, encoder: Path, out: Path) -> None:
    """Fit the encoder on train.parquet and write the tensors of train, valid and test under `out`."""
    declared, settings = read_schema(schema), params.load().encode
    columns = visible(declared, read_views(views), settings)
    fitted = Encoder.fit(declared, columns, training / "train.parquet", settings.minimum_count)
    fitted.write(encoder)
    print(_summary(fitted), flush=True)
    for split in ("train", "valid", "test"):
        write_tensors(fitted, declared, training / f"{split}.parquet", out / split)


def visible(schema: Schema, views: tuple[View, ...], settings: Encode) -> tuple[Column, ...]:
    """The inputs that come from the sources in `settings.sources`: impression, profile, statistics."""
    impression = {column.name for column in inputs(schema, ())}
    profile = {column.name for table in ("users", "items") for column in schema.profile(table)}
    sources = dict.fromkeys(impression, "impression") | dict.fromkeys(profile, "profile")
    return tuple(c for c in inputs(schema, views) if sources.get(c.name, "statistics") in settings.sources)


def _summary(encoder: Encoder) -> str:
    layout = encoder.layout
    return (
        f"encoder: {len(layout.categorical_tables)} categorical, {len(layout.bag_tables)} list and {layout.numeric} "
        f"numeric inputs; {sum(layout.table_rows):,} rows in {len(layout.table_rows)} tables"
    )


if __name__ == "__main__":
    stage.run(encode)
