"""Stage: Great Expectations on the joined training set; the quality gate before training."""

from pathlib import Path

from common import params, stage
from features.schema import read_schema, read_views


def inspect_training(
    *, schema: Path, validated: Path, features: Path, training: Path, report: Path, docs: Path
) -> None:
    """Check train.parquet, valid.parquet and test.parquet under `training` against what they were made from.

    Writes the report and Data Docs in either case; raises ValidationError if a critical rule is broken.

    Args:
        schema: Declaration of the data set.
        validated: Folder of the accepted events.
        features: Folder of the feature views.
        training: Folder of the three files.
        report: JSON report that is written.
        docs: Folder of the Data Docs that are written.
    """
    from features.quality import gate
    from features.quality.training_set import GATE, check_training

    declared, settings = read_schema(schema), params.load()
    suites = check_training(
        declared,
        read_views(features / "views.json"),
        settings.inspect,
        validated=validated,
        features=features,
        training=training,
        by_time=settings.join.split == "time",
    )
    gate.enforce(GATE, suites, name=declared.name, compared=(training, validated, features), report=report, docs=docs)


if __name__ == "__main__":
    stage.run(inspect_training)
