"""The stage that keeps the training window: its file is what the drift report is measured against."""

from pathlib import Path

from features.encoding.histograms import Histograms
from features.schema import read_schema


def test_the_reference_holds_every_training_row_in_every_column(project: Path) -> None:
    """Each column of the encoder has bins; the rows of a plain column add up to those of the window."""
    found = Histograms.read(project / "artifacts" / "reference.json")
    schema = read_schema(project / "data" / "schema.json")
    assert found.scenarios == schema.scenarios
    assert {"user_id", "price", "tags", "tags: length", "user_recent_items", "user_recent_items: age"} <= set(
        found.counts
    )
    assert found.of("price").sum() == found.rows.sum()
