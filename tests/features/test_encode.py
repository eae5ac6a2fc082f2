"""The encoder: one row of a table for each value, one scale for each number, the same in training and serving."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SchemaError
from common.params import Encode
from features.encode import encode
from features.encoding.encoder import LIMIT, PADDING, UNKNOWN, Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.tensors import open_tensors
from features.join import join
from features.schema import Column, DType, Kind, Role, inputs, inputs_from, read_views
from tests.support import world

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


def test_known_values_have_rows_in_order_and_the_rest_is_unknown(tmp_path: Path) -> None:
    """Values seen often enough are rows 1, 2, ... by value; rare, new and null ones are row 0."""
    encoder = fit(tmp_path, rows(item_id=[30, 10, 30, 10, 20], city=["north"] * 5), minimum_count=2)
    found = encoder.encode(rows(item_id=[10, 30, 20, 99, None], city=["north", "south", None, "north", "x"]))
    assert found.categorical.tolist() == [[1, 1], [2, 0], [UNKNOWN, 0], [UNKNOWN, 1], [UNKNOWN, 0]]


def test_numbers_are_scaled_by_training_rows_and_missing_ones_marked(tmp_path: Path) -> None:
    """log(1 + v) with mean 0 and deviation 1 over the training rows; missing: 0 and a mark; wild values are cut."""
    prices = [1.0, 5.0, 20.0, None, 100.0]
    encoder = fit(tmp_path, rows(price=prices))
    found = encoder.encode(rows(price=[*prices, 1e30, float("nan")])).numeric
    known = found[[0, 1, 2, 4], 0]
    assert known.mean() == pytest.approx(0, abs=1e-6)
    assert known.std() == pytest.approx(1, abs=1e-6)
    assert found[:, 1].tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert found[3, 0] == found[6, 0] == 0
    assert found[5, 0] == LIMIT


def test_lists_keep_the_newest_of_a_sequence_and_the_first_of_a_set(tmp_path: Path) -> None:
    """A sequence keeps its last two values, a set its first two; short and missing lists are padded behind."""
    table = rows(item_id=[1, 2, 3], tags=[["a", "b", "c"], ["b"], None], recent=[[1, 2, 3], [], [3]])
    found = fit(tmp_path, table).encode(table).bags
    assert found.tolist() == [[1, 2, 2, 3], [2, PADDING, PADDING, PADDING], [PADDING, PADDING, 3, PADDING]]


def test_a_sequence_of_items_shares_the_table_of_items(tmp_path: Path) -> None:
    """`recent` has the vocabulary of item_id: no table of its own, and an item seen only in lists is unknown."""
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


values = st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=40)


@given(training=values, serving=values)
def test_any_row_encodes_as_in_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, training: list, serving: list
) -> None:
    """Whatever the values, lookups equal a plain dictionary of the values seen in training."""
    encoder = fit(tmp_path_factory.mktemp("fit"), rows(item_id=training))
    known = sorted({value for value in training if value is not None})
    expected = [known.index(value) + 1 if value in known else 0 for value in serving]
    assert encoder.encode(rows(item_id=serving)).categorical[:, 0].tolist() == expected


def test_an_encoder_is_the_same_after_json(tmp_path: Path) -> None:
    """Written and read back, an encoder is equal, encodes the same, and is written to the same bytes again."""
    table = rows(item_id=[1, 2, 2], city=["a", "b", None], price=[0.1, 0.3, 0.7], tags=[["x"], ["y"], []])
    encoder = fit(tmp_path, table)
    encoder.write(tmp_path / "a.json")
    read = Encoder.read(tmp_path / "a.json")
    read.write(tmp_path / "b.json")
    assert read == encoder
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for name, found in vars(read.encode(table)).items():
        np.testing.assert_array_equal(found, getattr(encoder.encode(table), name))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world through aggregate, join and encode."""
    folder = world.write_features(tmp_path_factory.mktemp("encoded"), world.tables(rows=500))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        join(schema=Path("schema.json"), validated=Path("validated"), features=Path("features"), out=Path("training"))
        paths = {"schema": "schema.json", "views": "features/views.json", "training": "training"}
        encode(**{k: Path(v) for k, v in paths.items()}, encoder=Path("encoder.json"), out=Path("tensors"))  # type: ignore[arg-type]
    return folder


def test_the_tensors_of_the_stage_are_the_rows_encoded(encoded: Path) -> None:
    """For each split: as many rows as the Parquet file, equal to encoding it at once, labels and ids beside."""
    encoder = Encoder.read(encoded / "encoder.json")
    for split in ("train", "valid", "test"):
        table = pq.read_table(encoded / "training" / f"{split}.parquet")
        tensors, expected = open_tensors(encoded / "tensors" / split), encoder.encode(table)
        for name in ("categorical", "bags", "numeric", "scenario"):
            np.testing.assert_array_equal(getattr(tensors, name), getattr(expected, name))
        assert tensors.labels[:, 0].tolist() == table["click"].to_pylist()
        assert tensors.event_id.tolist() == table["event_id"].to_pylist()
        users = pd.DataFrame({"user": table["user_id"].to_pylist(), "code": tensors.user}).drop_duplicates()
        assert len(users) == users["user"].nunique() == users["code"].nunique()
        assert np.isfinite(tensors.numeric).all()


def test_the_encoder_is_fitted_on_training_rows_alone(encoded: Path) -> None:
    """The fitted vocabularies and scales are those of train.parquet; valid and test rows have no say."""
    columns = inputs_from(SCHEMA, read_views(encoded / "features" / "views.json"), Encode(**world.section("encode")).sources)
    again = fit_encoder(SCHEMA, columns, encoded / "training" / "train.parquet", 3)
    assert again == Encoder.read(encoded / "encoder.json")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["impression"], {"user_id", "item_id", "scenario", "hour"}),
        (["profile"], {"city", "price", "tags"}),
        (["impression", "profile"], {"user_id", "item_id", "scenario", "hour", "city", "price", "tags"}),
    ],
)
def test_sources_choose_what_the_model_sees(encoded: Path, sources: list, expected: set[str]) -> None:
    """`sources` selects the impression's own columns, the profiles, or the statistics; labels are in none."""
    views = read_views(encoded / "features" / "views.json")
    assert {c.name for c in inputs_from(SCHEMA, views, sources)} == expected
    every = inputs_from(SCHEMA, views, Encode(**world.section("encode")).sources)
    assert every == inputs(SCHEMA, views)
    assert not {"click", "order"} & {column.name for column in every}
