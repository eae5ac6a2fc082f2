"""Capped and hashed tables: the most frequent values have rows of their own, all others share some by a stable hash."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ParameterError
from features.encoding.bins import UNKNOWN
from features.encoding.encoder import METADATA, Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.hash_buckets import bucket_of
from features.encoding.held_out import count_held_out
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.encoding.request_encoder import RequestEncoder
from features.schema import Column, DType, Kind, Role
from tests.support import world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()
ITEM = next(column for column in SCHEMA.events if column.name == "item_id")
CITY = Column(name="city", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL, nullable=True)
RECENT = Column(
    name="recent", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, domain="item_id", length=3
)
COLUMNS = (ITEM, CITY, RECENT)
IN_DUCKDB = "('0x' || left(md5(value::varchar), 15))::bigint % ?"  # as docs/how-to/many-ids.md has it
ids = st.none() | st.integers(0, 30) | st.integers(-(2**63), 2**63 - 1)
cities = st.none() | st.sampled_from(["north", "Zürich", ""]) | st.text(max_size=8)


def table(items: list, city: list, recent: list) -> pa.Table:
    """Rows of COLUMNS in the scenario feed."""
    types = {"item_id": pa.int64(), "city": pa.string(), "recent": pa.list_(pa.int64())}
    columns = zip(types.items(), (items, city, recent), strict=True)
    return pa.table(
        {name: pa.array(values, kind) for (name, kind), values in columns} | {"scenario": ["feed"] * len(items)}
    )


def fit(folder: Path, rows: pa.Table, minimum_count: int = 1, **tables: dict[str, int]) -> Encoder:
    """An encoder of COLUMNS fitted on the rows."""
    pq.write_table(rows, folder / "train.parquet")
    return fit_encoder(SCHEMA, COLUMNS, folder / "train.parquet", minimum_count, **tables)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database without settings of the project."""
    with duckdb.connect(config={"threads": 1}) as opened:
        yield opened


@settings(deadline=None, max_examples=15)
@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    texts=st.lists(st.text(), min_size=1),
    buckets=st.sampled_from([1, 7, 10**9]),
)
def test_python_duckdb_and_the_columns_of_the_encoder_hash_alike(
    connection: duckdb.DuckDBPyConnection, numbers: list, texts: list, buckets: int
) -> None:
    """Numbers of 64 bits with either sign and any text have the same bucket wherever it is computed."""
    for values, kind, column in ((numbers, pa.int64(), ITEM), (texts, pa.string(), CITY)):
        given_values = pa.table({"value": pa.array(values, kind)})
        connection.register("given_values", given_values)
        in_duckdb = connection.execute(f"select {IN_DUCKDB} from given_values", [buckets]).fetchall()
        encoder = Encoder("scenario", ("feed",), (column,), {column.name: []}, {}, buckets={column.name: buckets})
        rows = pa.table({column.name: given_values["value"], "scenario": ["feed"] * len(values)})
        expected = [bucket_of(value, buckets) for value in values]
        assert [bucket for (bucket,) in in_duckdb] == expected
        assert (encoder.encode(rows).categorical[:, 0] - 1).tolist() == expected


def test_the_hash_never_changes() -> None:
    """Models on disk were trained with these buckets."""
    values = (0, -1, 2**63 - 1, "", "north", "Zürich")
    assert [bucket_of(value, 1_000_003) for value in values] == [801403, 858708, 978201, 696372, 921784, 66946]


@settings(deadline=None, max_examples=10)
@given(training=st.lists(ids, min_size=1, max_size=40), limit=st.integers(1, 6), minimum_count=st.integers(1, 2))
def test_the_most_frequent_values_have_rows(
    tmp_path_factory: pytest.TempPathFactory, training: list, limit: int, minimum_count: int
) -> None:
    """As a plain sort has them: by falling count, of equal ones the least; a limit above their number caps nothing."""
    rows = table(training, [None] * len(training), [None] * len(training))
    encoder = fit(tmp_path_factory.mktemp("fit"), rows, minimum_count, maximum_values={"item_id": limit})
    counts = Counter(value for value in training if value is not None)
    frequent = sorted((-count, value) for value, count in counts.items() if count >= minimum_count)
    assert encoder.vocabularies["item_id"] == sorted(value for _, value in frequent[:limit])
    assert encoder.capped == (("item_id",) if len(frequent) > limit else ())


@settings(deadline=None, max_examples=30)
@given(row=st.tuples(ids, cities, st.none() | st.lists(ids, max_size=5)), buckets=st.integers(1, 9))
def test_rows_of_a_table_and_of_a_request_are_hashed_alike(row: tuple, buckets: int) -> None:
    """Known values have their own rows, missing ones row 0, all others one behind the vocabulary; also in lists."""
    item, city, recent = row
    vocabularies = {"item_id": [3, 5, 8], "city": ["north"]}
    encoder = Encoder("scenario", SCHEMA.scenarios, COLUMNS, vocabularies, {}, buckets={"item_id": buckets})
    rows = table([item], [city], [recent])
    encoded = encoder.encode(rows)
    kept = (recent or [])[-3:]

    def expected(value: int | None) -> int:
        own = vocabularies["item_id"]
        return 0 if value is None else own.index(value) + 1 if value in own else 4 + bucket_of(value, buckets)

    assert encoded.categorical.tolist() == [[expected(item), int(city == "north")]]
    assert encoded.bags.tolist() == [[expected(value) for value in kept] + [-1] * (3 - len(kept))]
    assert encoder.layout.table_rows == (4 + buckets, 2)
    of_request = RequestEncoder(encoder, frozenset({"item_id", "city", "recent"})).encode(
        {"item_id": item, "city": city, "recent": recent}, SCHEMA.scenarios.index("feed")
    )
    for name, values in vars(encoded).items():
        np.testing.assert_array_equal(getattr(of_request, name), values, err_msg=name)
    own = encoder.without_hashed(encoded)
    plain = dataclasses.replace(encoder, buckets={}).encode(rows)
    for name, values in vars(plain).items():
        np.testing.assert_array_equal(getattr(own, name), values, err_msg=name)


def test_an_encoder_with_and_without_buckets_is_the_same_after_it_is_written(tmp_path: Path) -> None:
    """Read back it is equal; one without limits and buckets, or with 0 of them, has the bytes that it always had."""
    rows = table([1, 1, 2, 3], ["a", "a", "b", None], [None] * 4)
    plain = fit(tmp_path, rows)
    plain.write(tmp_path / "plain.parquet")
    fit(tmp_path, rows, maximum_values={"item_id": 3}, hash_buckets={"city": 0}).write(tmp_path / "zero.parquet")
    assert (tmp_path / "zero.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    fitted = json.loads(pq.read_schema(tmp_path / "plain.parquet").metadata[METADATA])
    assert set(fitted) == {"scenario", "scenarios", "columns", "scales"}
    hashed = fit(tmp_path, rows, maximum_values={"item_id": 2}, hash_buckets={"item_id": 5})
    hashed.write(tmp_path / "hashed.parquet")
    assert Encoder.read(tmp_path / "hashed.parquet") == hashed
    assert (hashed.capped, hashed.buckets, hashed.layout.table_rows) == (("item_id",), {"item_id": 5}, (8, 3))


@pytest.mark.parametrize("parameter", ["maximum_values", "hash_buckets"])
def test_a_table_that_does_not_exist_is_refused_by_name(tmp_path: Path, parameter: str) -> None:
    """A misspelled table would be left as large as it is, without a word; lists have the table of their domain."""
    with pytest.raises(ParameterError, match=rf"encode\.{parameter} .* names recent, .* are item_id, city: a column"):
        fit(tmp_path, table([1], ["a"], [[1]]), **{parameter: {"recent": 5}})


def test_drift_counts_a_hashed_value_as_unknown(tmp_path: Path) -> None:
    """It has no row of its own, so buckets do not hide new values from the report."""
    world_rows = world.tables(rows=600, users=40, items=60)["events"]
    pq.write_table(pa.Table.from_pandas(world_rows, preserve_index=False), tmp_path / "train.parquet")
    encoder = fit_encoder(SCHEMA, (ITEM,), tmp_path / "train.parquet", 1, maximum_values={"item_id": 20})
    bins = next(
        bins for bins in fit_reference(tmp_path / "train.parquet", SCHEMA, encoder).bins if bins.name == "item_id"
    )
    hashed = dataclasses.replace(encoder, buckets={"item_id": 8})
    counts = count_histograms(tmp_path / "train.parquet", SCHEMA, hashed, (bins,)).counts["item_id"]
    unknown = ~world_rows["item_id"].isin(encoder.vocabularies["item_id"])
    assert counts[..., UNKNOWN].sum() == unknown.sum() > 100


def test_the_usual_share_of_unknown_values_is_that_of_a_further_day(tmp_path: Path) -> None:
    """Of a capped table, too: the share that leaving out one day estimates is the share in later, equal days."""
    generator = np.random.default_rng(5)
    count, days = 24_000, 8
    events = world.tables(rows=count, days=days)["events"]
    events["item_id"] = np.minimum(generator.zipf(1.2, count), 5_000)
    events["timestamp"] = pd.Timestamp("2026-01-05") + pd.to_timedelta(np.arange(count) * days // count, "D")
    first, last = events["timestamp"].min().date(), events["timestamp"].max().date()
    before = events[events["timestamp"].dt.date < last]
    pq.write_table(pa.Table.from_pandas(before, preserve_index=False), tmp_path / "train.parquet")
    encoder = fit_encoder(SCHEMA, (ITEM,), tmp_path / "train.parquet", 1, maximum_values={"item_id": 300})
    held_out = count_held_out(tmp_path / "train.parquet", SCHEMA, encoder, (first, last - timedelta(days=1)))
    known, last_day = encoder.vocabularies["item_id"], events["timestamp"].dt.date == last
    fitted = (~before["item_id"].isin(known)).mean()
    later = (~events.loc[last_day, "item_id"].isin(known)).mean()
    estimate = fitted + sum(held_out["item_id"]) / len(before)
    assert estimate == pytest.approx(later, abs=0.015)
    assert encoder.capped == ("item_id",)
