"""Stage: the training rows as histograms by column, scenario and day: what drift is measured against."""

from pathlib import Path

from common import stage
from features.encoding.encoder import Encoder
from features.encoding.histograms import fit_reference
from features.schema import read_schema


def summarize(*, schema: Path, encoder: Path, training: Path, out: Path) -> None:
    """Fit bins on train.parquet under `training` and write its histograms to `out`."""
    found = fit_reference(training / "train.parquet", read_schema(schema), Encoder.read(encoder))
    found.write(out)
    print(
        f"reference: {int(found.rows.sum()):,} rows of {found.first_day} to {found.last_day}, {len(found.bins)} "
        f"histograms in {len(found.scenarios)} scenarios, {out.stat().st_size / 1e3:,.0f} kB",
        flush=True,
    )


if __name__ == "__main__":
    stage.run(summarize)
