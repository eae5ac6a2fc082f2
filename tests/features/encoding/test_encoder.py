"""The encoder: an id for each value, one scale for each number, the same in training and serving."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import SchemaError
from features.encoding.encoder import LIMIT, PADDING, UNKNOWN, Encoder
from features.encoding.fitting import fit_encoder
from features.schema import Column, DType, Kind, Role
from tests.support import world

pytestmark = pytest.mark.unit

SCHEMA = world.schema()
PRICE = Column(name="price", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True, log=True)
CITY = Column(name="city", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL, nullable=True)
TAGS = Column(name="tags", role=Role.FEATURE, dtype=DType.STRING_LIST, kind=Kind.MULTI_VALUED, length=2)
RECENT = Column(
    name="recent", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, domain="item_id", length=2
)


ITEM = next(column for column in SCHEMA.events if column.name == "item_id")
COLUMNS = (ITEM, CITY, TAGS, RECENT, PRICE)


def rows(**columns: list) -> pa.Table:
    """Rows with every column of COLUMNS, as many as the first column given has."""
    size = len(next(iter(columns.values())))
    types = {
        "item_id": pa.int64(),
        "city": pa.string(),
        "tags": pa.list_(pa.string()),
        "price": pa.float32(),
        "recent": pa.list_(pa.int64()),
        "scenario": pa.string(),
    }
    filled = {name: columns.get(name, ["feed" if name == "scenario" else None] * size) for name in types}
    return pa.table({name: pa.array(values, types[name]) for name, values in filled.items()})


def fit(tmp_path: Path, table: pa.Table, minimum_count: int = 1) -> Encoder:
    """An encoder of COLUMNS fitted on `table`."""
    pq.write_table(table, tmp_path / "train.parquet")
    return fit_encoder(SCHEMA, COLUMNS, tmp_path / "train.parquet", minimum_count)


def test_frequent_values_have_ids_in_order_and_the_others_are_unknown(tmp_path: Path) -> None:
    """Values that occur often enough have the ids 1, 2, ... by value; rare, new and null ones have id 0."""
    encoder = fit(tmp_path, rows(item_id=[30, 10, 30, 10, 20], city=["north"] * 5), minimum_count=2)
    encoded = encoder.encode(rows(item_id=[10, 30, 20, 99, None], city=["north", "south", None, "north", "x"]))
    assert encoded.categorical.tolist() == [[1, 1], [2, 0], [UNKNOWN, 0], [UNKNOWN, 1], [UNKNOWN, 0]]


def test_numbers_are_scaled_by_training_rows_and_missing_ones_flagged(tmp_path: Path) -> None:
    """log(1 + v) with mean 0 and deviation 1 over the training rows; missing: 0 and a flag; outliers are clipped."""
    prices = [1.0, 5.0, 20.0, None, 100.0]
    encoder = fit(tmp_path, rows(price=prices))
    encoded = encoder.encode(rows(price=[*prices, 1e30, float("nan")])).numeric
    known = encoded[[0, 1, 2, 4], 0]
    assert known.mean() == pytest.approx(0, abs=1e-6)
    assert known.std() == pytest.approx(1, abs=1e-6)
    assert encoded[:, 1].tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert encoded[3, 0] == encoded[6, 0] == 0
    assert encoded[5, 0] == LIMIT


def test_lists_keep_the_newest_of_a_sequence_and_the_first_of_a_set(tmp_path: Path) -> None:
    """A sequence keeps its last two values, a set its first two; short and missing lists are padded at the end."""
    table = rows(item_id=[1, 2, 3], tags=[["a", "b", "c"], ["b"], None], recent=[[1, 2, 3], [], [3]])
    encoded = fit(tmp_path, table).encode(table).bags
    assert encoded.tolist() == [[1, 2, 2, 3], [2, PADDING, PADDING, PADDING], [PADDING, PADDING, 3, PADDING]]


def test_a_sequence_of_items_shares_the_vocabulary_of_items(tmp_path: Path) -> None:
    """`recent` has the vocabulary of item_id, and an item that occurs only in lists is unknown."""
    table = rows(item_id=[1, 2], recent=[[1, 7], [2]])
    encoder = fit(tmp_path, table)
    assert set(encoder.vocabularies) == {"item_id", "city", "tags"}
    assert encoder.encode(table).bags[:, 2:].tolist() == [[1, UNKNOWN], [2, PADDING]]
    layout = encoder.layout
    assert (layout.bag_tables, layout.bag_lengths, layout.table_rows) == ((2, 0), (2, 2), (3, 1, 1))


def test_an_unknown_scenario_is_an_error(tmp_path: Path) -> None:
    """A scenario outside the declaration cannot be encoded: the message names the declared ones."""
    encoder = fit(tmp_path, rows(item_id=[1]))
    with pytest.raises(SchemaError, match=r"none of .*feed"):
        encoder.encode(rows(item_id=[1], scenario=["nowhere"]))


def test_an_encoder_is_the_same_after_it_is_written(tmp_path: Path) -> None:
    """Written and read back, an encoder is equal, encodes the same, and is written to the same bytes again."""
    table = rows(item_id=[1, 2, 2], city=["a", "b", None], price=[0.1, 0.3, 0.7], tags=[["x"], ["y"], []])
    encoder = fit(tmp_path, table)
    encoder.write(tmp_path / "a.parquet")
    read = Encoder.read(tmp_path / "a.parquet")
    read.write(tmp_path / "b.parquet")
    assert read == encoder
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    for name, encoded in vars(read.encode(table)).items():
        np.testing.assert_array_equal(encoded, getattr(encoder.encode(table), name))
