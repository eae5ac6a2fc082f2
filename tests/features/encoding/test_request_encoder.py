"""The request encoder: one row, value by value, with the bytes of the Encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SchemaError
from features.encoding.encoder import Encoder
from features.encoding.request_encoder import RequestEncoder
from features.engine.arrow_types import arrow_schema
from features.schema import Column, DType, inputs
from models.model_folder import read_model
from tests.support import rich_world

pytestmark = pytest.mark.integration

SCHEMA = rich_world.rich_schema()
COLUMNS = (*inputs(SCHEMA, ()), *SCHEMA.profile("users"), *SCHEMA.profile("items"))
TABLES: dict[str, list[Any]] = {
    column.vocabulary: ["b", "c", "red"] if "string" in column.dtype else [1, 3, 2**40]
    for column in COLUMNS
    if column.has_vocabulary
}
TABLES["scenario"] = ["feed", "search"]
ENCODER = Encoder(
    "scenario",
    SCHEMA.scenarios,
    COLUMNS,
    TABLES,
    {c.name: (0.3, 1.7) for c in COLUMNS},
    {"image": ([0.1, -2.0, 3.0, 0.0], [1.0, 0.3, 7.0, 1e-30])},
)
VALUES: dict[DType, st.SearchStrategy] = {
    DType.INT64: st.sampled_from([1, 2, 3, 2**40]) | st.integers(0, 2**53),
    DType.FLOAT32: st.floats(0, width=64) | st.floats(-0.5, 5, width=32) | st.just(float("nan")),
    DType.STRING: st.sampled_from(["a", "b", "red"]),
}
VALUES |= {
    DType.INT64_LIST: st.lists(VALUES[DType.INT64], max_size=5),
    DType.STRING_LIST: st.lists(VALUES[DType.STRING], max_size=5),
    DType.FLOAT32_LIST: st.lists(VALUES[DType.FLOAT32] | st.just(-float("inf")), min_size=4, max_size=4),
}


def value(column: Column) -> st.SearchStrategy:
    """Any value that a column may have."""
    return st.sampled_from(SCHEMA.scenarios) if column.name == "scenario" else st.none() | VALUES[column.dtype]


@settings(deadline=None)
@given(row=st.fixed_dictionaries({column.name: value(column) for column in COLUMNS}))
def test_a_row_has_the_bytes_of_the_encoder(row: dict[str, Any]) -> None:
    """Categories, bags, sequences, numbers, nulls, unknown values, values beyond float32: the same bytes."""
    with np.errstate(over="ignore"):
        table = pa.table({f.name: pa.array([row[f.name]], f.type) for f in arrow_schema(COLUMNS)})
        expected = ENCODER.encode(table)
    scenario = SCHEMA.scenarios.index(row["scenario"])
    encoded = RequestEncoder(ENCODER, frozenset(row)).encode(row, scenario)
    for name, values in vars(expected).items():
        assert getattr(encoded, name).dtype == values.dtype
        np.testing.assert_array_equal(getattr(encoded, name), values, err_msg=name)


def test_a_vector_of_another_length_is_refused_by_name() -> None:
    """It would be cut, or spread over the others, without a word."""
    with pytest.raises(SchemaError, match="column image: a vector has not 4 numbers, found 1"):
        RequestEncoder(ENCODER, frozenset({"image"})).encode({"image": [1.0]}, 0)


def test_other_columns_are_unknown_padding_and_zero() -> None:
    """An encoder of the user's columns leaves those of the item unknown, padded and zero."""
    names = frozenset({"user_id", "weight"})
    encoded = RequestEncoder(ENCODER, names).encode({"user_id": 3, "item_id": 3, "weight": 2.0, "price": 9.0}, 1)
    assert encoded.categorical[0].tolist().count(0) == encoded.categorical.shape[1] - 1
    assert (encoded.bags == -1).all()
    assert np.count_nonzero(encoded.numeric) == 1
    assert not encoded.numeric[:, -5:].any()  # the image is the item's: not even its flag is set


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_rows_have_the_bytes_of_their_tensors(project: Path, split: str) -> None:
    """Encoded one by one, joined rows equal the rows that the encoder makes of the table."""
    import pyarrow.parquet as pq

    encoder = read_model(project / "artifacts/models/hinet_plus").encoder
    table = pq.read_table(project / f"data/training/{split}.parquet").slice(0, 50)
    expected = encoder.encode(table)
    request_encoder = RequestEncoder(encoder, frozenset(column.name for column in encoder.columns))
    for index, row in enumerate(table.to_pylist()):
        encoded = request_encoder.encode(row, int(expected.scenario[index]))
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(encoded, name)[0], values[index], err_msg=name)
