"""Typed tables of a raw log: nothing is truncated or filled in."""

import pandas as pd
import pyarrow as pa
import pytest

from features.datasets.writer import typed_table
from tests.support import world

pytestmark = pytest.mark.unit


def test_missing_values_stay_missing():
    """Numbers with gaps become integers with nulls; nothing is filled in."""
    frame = pd.DataFrame({"price": [1.5, None], "item_id": [1.0, 2.0], "tags": [["hot"], []], "listed_at": world.START})
    table = typed_table(frame, world.schema().items, "items")
    assert table["price"].to_pylist() == [1.5, None]
    assert table["tags"].to_pylist() == [["hot"], []]
    assert table["item_id"].type == pa.int64()
