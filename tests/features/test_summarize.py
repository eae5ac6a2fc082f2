"""Stage summarize: histograms of the training rows, the reference of the drift report."""

from pathlib import Path

import pytest

from features.encoding.histograms import Histograms
from features.schema import read_schema

pytestmark = pytest.mark.integration


def test_the_reference_holds_every_training_row_in_every_column(project: Path) -> None:
    """Each column of the encoder has bins; the rows of a scalar column add up to those of the window."""
    reference = Histograms.read(project / "artifacts" / "reference.json")
    schema = read_schema(project / "data" / "schema.json")
    assert reference.scenarios == schema.scenarios
    assert {"user_id", "price", "tags", "tags: length", "user_recent_items", "user_recent_items: age"} <= set(
        reference.counts
    )
    assert reference.of("price").sum() == reference.rows.sum()
