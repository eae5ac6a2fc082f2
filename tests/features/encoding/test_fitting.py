"""Fitting of the encoder: vocabularies of the training values."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoding.fitting import fit_encoder
from tests.support import world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()
ITEM = next(column for column in SCHEMA.events if column.name == "item_id")
values = st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=40)


def rows(items: list) -> pa.Table:
    """Rows with an item and a scenario."""
    return pa.table({"item_id": pa.array(items, pa.int64()), "scenario": ["feed"] * len(items)})


@settings(deadline=None)
@given(training=values, serving=values)
def test_any_row_encodes_as_in_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, training: list, serving: list
) -> None:
    """Whatever the values, lookups equal a plain dictionary of the training values."""
    path = tmp_path_factory.mktemp("fit") / "train.parquet"
    pq.write_table(rows(training), path)
    encoder = fit_encoder(SCHEMA, (ITEM,), path, 1)
    known = sorted({value for value in training if value is not None})
    expected = [known.index(value) + 1 if value in known else 0 for value in serving]
    assert encoder.encode(rows(serving)).categorical[:, 0].tolist() == expected
