"""Stage: Great Expectations on what the encoder wrote; the quality gate before training."""

from pathlib import Path

from common import params, stage
from features.schema import read_schema


def inspect_tensors(*, schema: Path, encoder: Path, training: Path, tensors: Path, report: Path, docs: Path) -> None:
    """Check the arrays of train, valid and test under `tensors` against the Parquet files under `training`.

    Writes the report and Data Docs in either case; raises ValidationError if a critical rule is broken.

    Args:
        schema: Declaration of the data set.
        encoder: The fitted encoder.
        training: Folder of the joined impressions.
        tensors: Folder of the encoded impressions.
        report: JSON report that is written.
        docs: Folder of the Data Docs that are written.
    """
    from features.encoding.encoder import Encoder
    from features.quality import gate
    from features.quality.tensors import GATE, check_tensors

    declared, fitted, settings = read_schema(schema), Encoder.read(encoder), params.load().inspect
    suites = check_tensors(declared, fitted, settings, training=training, tensors=tensors)
    gate.enforce(GATE, suites, name=declared.name, compared=(tensors, training, encoder), report=report, docs=docs)


if __name__ == "__main__":
    stage.run(inspect_tensors)
