"""Stage: the training rows as histograms by column, scenario and day: the reference of the drift report."""

from pathlib import Path

from common import params, stage
from common.files import partial_of
from features.schema import read_schema


def summarize(*, schema: Path, encoder: Path, training: Path, out: Path) -> None:
    """Fit bins on train.parquet under `training` and write its histograms to `out`.

    Args:
        schema: Declaration of the data set.
        encoder: The fitted encoder.
        training: Folder of train.parquet.
        out: JSON file of the histograms that is written.
    """
    from features.encoding.encoder import Encoder
    from features.encoding.histogram_counts import fit_reference
    from features.engine.engines import open_cluster

    with open_cluster(params.load().engine, partial_of(out)) as engine:
        reference = fit_reference(training / "train.parquet", read_schema(schema), Encoder.read(encoder), engine)
    reference.write(out)
    print(
        f"reference: {int(reference.rows.sum()):,} rows of {reference.first_day} to {reference.last_day}, "
        f"{len(reference.bins)} histograms in {len(reference.scenarios)} scenarios, {out.stat().st_size / 1e3:,.0f} kB",
        flush=True,
    )


if __name__ == "__main__":
    stage.run(summarize)
