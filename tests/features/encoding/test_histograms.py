"""Histograms on frozen bins: counts equal to a loop over the rows, merging, and reproducible bytes."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import stage
from common.errors import SchemaError
from features.encoding.bins import Bins, Measure
from features.encoding.encoder import Encoder
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.encoding.histograms import Histograms
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.schema import Column, DType, Kind, Role, inputs, newest_day
from tests.support import world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()
COLUMNS = (*inputs(SCHEMA, ()), *SCHEMA.profile("users"), *SCHEMA.profile("items"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 events of six days with the profiles of their users and items, some of them missing."""
    tables = world.tables(rows=3000, users=40, items=60)
    joined = tables["events"].merge(tables["users"]).merge(tables["items"]).sort_values("event_id")
    joined.loc[joined.index % 7 == 0, "price"] = np.nan
    path = tmp_path_factory.mktemp("rows") / "train.parquet"
    types = arrow_schema((*SCHEMA.events, *SCHEMA.profile("users"), *SCHEMA.profile("items")))
    pq.write_table(pa.Table.from_pandas(joined[types.names], types, preserve_index=False), path)
    return path


@pytest.fixture(scope="module")
def encoder(rows: Path) -> Encoder:
    """Fitted on the rows; a value that occurs less than sixty times is unknown."""
    return fit_encoder(SCHEMA, COLUMNS, rows, minimum_count=60)


@pytest.fixture(scope="module")
def reference(rows: Path, encoder: Encoder) -> Histograms:
    """Of all the rows."""
    return fit_reference(rows, SCHEMA, encoder)


def bins_of(reference: Histograms, name: str) -> Bins:
    """The bins of this name."""
    return next(bins for bins in reference.bins if bins.name == name)


def test_the_edges_of_a_number_are_its_quantiles(rows: Path, reference: Histograms) -> None:
    """The distinct tenths of the finite values, as quantile_disc of DuckDB has them."""
    tenths = [step / 10 for step in range(11)]
    with connect() as connection:
        (expected,) = connection.execute(
            f"select quantile_disc(price::double, {tenths}) from {sql.parquet(rows)} where isfinite(price)"
        ).fetchone() or ([],)
    assert bins_of(reference, "price").edges == tuple(sorted(set(expected)))


def slow_bin(bins: Bins, known: set[object], value: object) -> int:
    """The bin of a value, as the docstring of Bins defines it."""
    if bins.numeric:
        if value is None or value != value:
            return 0
        if value < bins.edges[0]:  # type: ignore[operator]
            return 1
        if value > bins.edges[-1]:  # type: ignore[operator]
            return bins.count - 1
        return 2 + min(sum(value >= edge for edge in bins.edges[1:]), len(bins.edges) - 2)  # type: ignore[operator]
    if value is None:
        return 0
    own = dict(zip(bins.values, range(3, bins.count), strict=True))
    return own.get(value, 2) if value in known else 1  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["user_id", "item_id", "hour", "city", "price", "tags", "tags: length"])
def test_counts_are_those_of_a_loop_over_the_rows(
    rows: Path, encoder: Encoder, reference: Histograms, name: str
) -> None:
    """By day, scenario and bin: categories, ids with rare values, numbers with gaps, elements and lengths of lists."""
    bins = bins_of(reference, name)
    known = set(encoder.vocabularies.get(bins.vocabulary, []))
    expected = np.zeros_like(reference.counts[name])
    for row in pq.read_table(rows).to_pylist():
        day = (row["timestamp"].date() - reference.first_day).days
        value_or_list = row[bins.column]
        elements = (value_or_list or [None]) if bins.kind is Kind.MULTI_VALUED else [value_or_list]
        for value in [len(value_or_list)] if bins.measure is Measure.LENGTH else elements:
            expected[day, SCHEMA.scenarios.index(row["scenario"]), slow_bin(bins, known, value)] += 1
    np.testing.assert_array_equal(reference.counts[name], expected)


def test_the_age_of_a_sequence_is_counted_in_days(tmp_path: Path) -> None:
    """From the day of its newest value to that of the impression; missing without one; no bins without its column."""
    recent = Column(
        name="recent", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, nullable=True, length=3
    )
    events, day = world.tables(rows=40)["events"], pd.Timestamp(0)
    ages = [None if row % 4 == 0 else row % 9 for row in range(40)]
    days = (events["timestamp"].dt.normalize() - day).dt.days
    columns = {
        "recent": pa.array([None if age is None else [1, 2] for age in ages], pa.list_(pa.int64())),
        newest_day("recent"): pa.array([None if a is None else d - a for a, d in zip(ages, days, strict=True)]),
    }
    table = pa.Table.from_pandas(events[arrow_schema(SCHEMA.events).names], arrow_schema(SCHEMA.events))
    for name, values in columns.items():
        pq.write_table(table := table.append_column(name, values), tmp_path / f"{name}.parquet")
    encoder = fit_encoder(SCHEMA, (*SCHEMA.by_role(Role.SCENARIO), recent), tmp_path / "recent.parquet", 1)
    assert "recent: age" not in fit_reference(tmp_path / "recent.parquet", SCHEMA, encoder).counts
    histograms = fit_reference(tmp_path / "recent_newest_day.parquet", SCHEMA, encoder)
    bins = bins_of(histograms, "recent: age")
    expected = np.zeros(bins.count, np.int64)
    np.add.at(expected, [slow_bin(bins, set(), age) for age in ages], 1)
    assert histograms.of("recent: age").sum(axis=0).tolist() == expected.tolist()
    assert expected[0] == 10
    assert (bins.edges[0], bins.edges[-1]) == (0, 8)


def test_bins_of_older_models_are_read(reference: Histograms) -> None:
    """A model from before `measure` has `of_length` instead, and its bins are still read."""
    for bins in reference.bins:
        plain = bins.to_plain()
        plain["of_length"] = plain.pop("measure") is Measure.LENGTH
        assert Bins.of(plain) == bins


def test_sums_power_sums_labels_and_rows_are_those_of_pandas(rows: Path, reference: Histograms) -> None:
    """Sums are of ln(1 + price), power sums of the price; an unobserved label does not count."""
    frame = pd.read_parquet(rows)
    search = frame[frame["scenario"] == "search"]
    index = SCHEMA.scenarios.index("search")
    price = search["price"].astype(float)
    unit = bins_of(reference, "price").unit
    assert sum(reference.sums["price"][index]) == pytest.approx(1e6 * np.log1p(price).sum(), rel=1e-6)
    wanted = [price.count(), 1e6 * (price / unit).sum(), 1e6 * ((price / unit) ** 2).sum()]
    assert reference.power_sums["price"][index] == pytest.approx(wanted, rel=1e-6)
    assert reference.rows[:, index].sum() == len(search)
    assert reference.labels["order"][:, index].sum(axis=0).tolist() == [search["order"].count(), search["order"].sum()]


def test_effective_values_are_exp_of_the_entropy_of_a_day(rows: Path, reference: Histograms) -> None:
    """Mean over the days; only for a column with more values than bins."""
    frame = pd.read_parquet(rows)
    feed = frame[frame["scenario"] == "feed"]
    shares = [day["user_id"].value_counts(normalize=True) for _, day in feed.groupby(feed["timestamp"].dt.date)]
    wanted = np.mean([np.exp(-(p * np.log(p)).sum()) for p in shares])
    assert reference.effective["user_id"][SCHEMA.scenarios.index("feed")] == pytest.approx(wanted, rel=1e-3)
    assert "city" not in reference.effective


def test_new_and_outlying_values_have_separate_bins(
    rows: Path, encoder: Encoder, reference: Histograms, tmp_path: Path
) -> None:
    """A new city is unknown; a price above those of training is in the last bin, an infinite one too."""
    table = pq.read_table(rows).slice(0, 3)
    prices = pa.array([1e9, np.inf, -1.0], pa.float32())
    changed = table.set_column(table.column_names.index("price"), "price", prices)
    changed = changed.set_column(table.column_names.index("city"), "city", pa.array(["atlantis", None, "north"]))
    pq.write_table(changed, tmp_path / "new.parquet")
    histograms = count_histograms(tmp_path / "new.parquet", SCHEMA, encoder, reference.bins)
    price, city = (histograms.of(name).sum(axis=0) for name in ("price", "city"))
    assert (price[-1], price[1], price.sum()) == (2, 1, 3)
    assert (city[1], city[0], city.sum()) == (1, 1, 3)


def test_two_windows_are_merged_by_addition(
    rows: Path, encoder: Encoder, reference: Histograms, tmp_path: Path
) -> None:
    """Days 1 to 4 and days 5 to 6, counted separately and merged, equal the whole window."""
    table = pq.read_table(rows)
    first_of_second = pa.scalar(pd.Timestamp("2026-01-09").to_pydatetime(), pa.timestamp("us"))
    early = pa.compute.less(table["timestamp"], first_of_second)
    parts = []
    for name, part in (("first", table.filter(early)), ("second", table.filter(pa.compute.invert(early)))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
        parts.append(count_histograms(tmp_path / f"{name}.parquet", SCHEMA, encoder, reference.bins))
    merged = parts[0].merge(parts[1])
    assert (merged.days, merged.sums, merged.power_sums) == (reference.days, reference.sums, reference.power_sums)
    for name, counts in reference.counts.items():
        np.testing.assert_array_equal(merged.counts[name], counts)
    np.testing.assert_array_equal(merged.labels["click"], reference.labels["click"])
    with pytest.raises(SchemaError, match="begin after the first"):
        parts[1].merge(parts[0])


def test_the_same_rows_are_the_same_bytes_on_any_number_of_threads(
    rows: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file does not depend on the number of threads, and is equal after it is read and written."""
    for threads in (1, 2):
        monkeypatch.setattr(stage, "threads", lambda count=threads: count)
        fit_reference(rows, SCHEMA, encoder).write(tmp_path / f"{threads}.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    read = Histograms.read(tmp_path / "1.json")
    read.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    assert read.first_day == date(2026, 1, 5)


def test_an_empty_window_is_named(encoder: Encoder, rows: Path, reference: Histograms, tmp_path: Path) -> None:
    """A window without rows is an error that names the file."""
    pq.write_table(pq.read_table(rows).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(SchemaError, match="holds no rows"):
        count_histograms(tmp_path / "empty.parquet", SCHEMA, encoder, reference.bins)


def test_a_scenario_that_is_not_declared_is_named(
    rows: Path, encoder: Encoder, reference: Histograms, tmp_path: Path
) -> None:
    """A row of an undeclared scenario is an error and not left out."""
    table = pq.read_table(rows).slice(0, 2)
    changed = table.set_column(table.column_names.index("scenario"), "scenario", pa.array(["feed", "moon"]))
    pq.write_table(changed, tmp_path / "strange.parquet")
    with pytest.raises(SchemaError, match="1 rows have a scenario that is none of"):
        count_histograms(tmp_path / "strange.parquet", SCHEMA, encoder, reference.bins)


def test_a_long_window_is_counted_by_periods(rows: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """With at most three periods, six days are three periods of two; labels stay by day."""
    monkeypatch.setattr("features.encoding.histogram_counts.DAYS", 3)
    histograms = fit_reference(rows, SCHEMA, encoder)
    assert (histograms.period_days, histograms.counts["price"].shape[0], histograms.labels["click"].shape[0]) == (
        2,
        3,
        6,
    )
