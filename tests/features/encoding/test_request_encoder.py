"""One row encoded value by value: the Encoder's own bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encoding.encoder import Encoder
from features.encoding.request_encoder import RequestEncoder
from features.engine.arrow_types import arrow_schema
from features.schema import Column, DType, inputs
from models.model_folder import read_model
from tests.support import rich_world

SCHEMA = rich_world.rich_schema()
COLUMNS = (*inputs(SCHEMA, ()), *SCHEMA.profile("users"), *SCHEMA.profile("items"))
TABLES: dict[str, list[Any]] = {
    column.vocabulary: ["b", "c", "red"] if "string" in column.dtype else [1, 3, 2**40]
    for column in COLUMNS
    if column.kind != "numeric"
}
TABLES["scenario"] = ["feed", "search"]
ENCODER = Encoder("scenario", SCHEMA.scenarios, COLUMNS, TABLES, {c.name: (0.3, 1.7) for c in COLUMNS})
VALUES: dict[DType, st.SearchStrategy] = {
    DType.INT64: st.sampled_from([1, 2, 3, 2**40]) | st.integers(0, 2**53),
    DType.FLOAT32: st.floats(0, width=64) | st.floats(-0.5, 5, width=32) | st.just(float("nan")),
    DType.STRING: st.sampled_from(["a", "b", "red"]),
}
VALUES |= {
    DType.INT64_LIST: st.lists(VALUES[DType.INT64], max_size=5),
    DType.STRING_LIST: st.lists(VALUES[DType.STRING], max_size=5),
}


def value(column: Column) -> st.SearchStrategy:
    """Any value that a column may have."""
    return st.sampled_from(SCHEMA.scenarios) if column.name == "scenario" else st.none() | VALUES[column.dtype]


@given(row=st.fixed_dictionaries({column.name: value(column) for column in COLUMNS}))
def test_a_row_is_the_row_of_the_encoder(row: dict[str, Any]) -> None:
    """Categories, bags, sequences, numbers, nulls, unknown values, values beyond float32: the same bytes."""
    with np.errstate(over="ignore"):
        table = pa.table({f.name: pa.array([row[f.name]], f.type) for f in arrow_schema(COLUMNS)})
        expected = ENCODER.encode(table)
    scenario = SCHEMA.scenarios.index(row["scenario"])
    found = RequestEncoder(ENCODER, frozenset(row)).encode(row, scenario)
    for name, values in vars(expected).items():
        assert getattr(found, name).dtype == values.dtype
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


def test_columns_that_are_not_its_own_stay_empty() -> None:
    """Of an encoder for the user's columns, those of the item are unknown, padding and zero."""
    names = frozenset({"user_id", "weight"})
    found = RequestEncoder(ENCODER, names).encode({"user_id": 3, "item_id": 3, "weight": 2.0, "price": 9.0}, 1)
    assert found.categorical[0].tolist().count(0) == found.categorical.shape[1] - 1
    assert (found.bags == -1).all()
    assert np.count_nonzero(found.numeric) == 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_rows_of_training_come_out_as_their_tensors(project: Path, split: str) -> None:
    """Encoded one by one, joined rows give what the stage wrote."""
    import pyarrow.parquet as pq

    encoder = read_model(project / "artifacts/models/hinet").encoder
    table = pq.read_table(project / f"data/training/{split}.parquet").slice(0, 50)
    expected = encoder.encode(table)
    made = RequestEncoder(encoder, frozenset(column.name for column in encoder.columns))
    for place, row in enumerate(table.to_pylist()):
        found = made.encode(row, int(expected.scenario[place]))
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name)[0], values[place], err_msg=name)
