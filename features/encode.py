"""Stage: the training set -> encoder and memory-mapped tensors."""

from pathlib import Path
from typing import TYPE_CHECKING

from common import params, stage
from common.files import replacing_folder
from features.schema import SPLITS, inputs_from, read_schema, read_views

if TYPE_CHECKING:
    from features.encoding.encoder import Encoder


def encode(*, schema: Path, views: Path, training: Path, encoder: Path, out: Path) -> None:
    """Fit the encoder on train.parquet and write the tensors of train, valid and test under `out`.

    Args:
        schema: Declaration of the data set.
        views: Declaration of the feature views.
        training: Folder of train.parquet, valid.parquet and test.parquet.
        encoder: Parquet file of the encoder that is written.
        out: Folder of the tensors that are written.
    """
    from features.encoding.fitting import fit_encoder
    from features.encoding.mapped_tensors import encoded_rows
    from features.encoding.tensors import write_tensors
    from features.engine.engines import open_cluster

    declared, parameters = read_schema(schema), params.load()
    settings = parameters.encode
    columns = inputs_from(declared, read_views(views), settings.sources)
    train, least = training / "train.parquet", settings.minimum_count
    with replacing_folder(out) as partial, open_cluster(parameters.engine, partial / "spill") as engine:
        fitted = fit_encoder(declared, columns, train, least, **settings.tables, engine=engine)
        fitted.write(encoder)
        print(_summary(fitted), flush=True)
        for split in SPLITS:
            rows = training / f"{split}.parquet"
            encoded = None if engine is None else encoded_rows(engine, fitted, declared, rows)
            write_tensors(fitted, declared, rows, partial / split, encoded)


def _summary(encoder: "Encoder") -> str:
    layout = encoder.layout
    return (
        f"encoder: {len(layout.categorical_tables)} categorical, {len(layout.bag_tables)} list and {layout.numeric} "
        f"numeric inputs; {sum(layout.table_rows):,} rows in {len(layout.table_rows)} tables"
    )


if __name__ == "__main__":
    stage.run(encode)
