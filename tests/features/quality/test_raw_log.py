"""The quality gate of the raw log: broken rows go to quarantine, the other rows are accepted."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.quality import expectations, partitions
from features.schema import Column, DType, Kind, Role
from tests.support.rich_world import (
    ROWS,
    as_text,
    check,
    check_broken_rows,
    failed,
    read,
    rich_schema,
    rich_tables,
    write,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """One run over valid tables with every broken row appended: folder and results."""
    folder = tmp_path_factory.mktemp("checked")
    return folder, check_broken_rows(folder)


def test_valid_tables_are_accepted_whole(tmp_path):
    """Every row of valid tables is accepted unchanged; quarantine is written and empty."""
    write(tmp_path / "ingested", rich_tables())
    results = check(tmp_path, rich_schema())
    assert not failed(results)
    for name, result in results.items():
        assert result.passed
        assert result.rows == len(read(tmp_path / "ingested", name))
        assert read(tmp_path / "out", name) == read(tmp_path / "ingested", name)
        rejected = pq.read_table(tmp_path / "quarantine" / f"{name}.parquet")
        assert (rejected.column_names[-1], rejected.num_rows) == ("reasons", 0)


def test_every_other_row_is_accepted(checked):
    """Every row that is not broken is accepted, in its order: accepted and quarantined rows make up the input."""
    for name, result in checked[1].items():
        rejected = pq.read_table(checked[0] / "quarantine" / f"{name}.parquet").drop_columns("reasons").to_pylist()
        kept, ingested = read(checked[0] / "out", name), read(checked[0] / "ingested", name)
        assert (result.rows, result.quarantined) == (len(ingested), len(rejected))
        assert sorted(map(as_text, kept + rejected)) == sorted(map(as_text, ingested))
        removed = set(map(as_text, rejected))
        assert kept == [row for row in ingested if as_text(row) not in removed]


def test_examples_name_the_broken_rows(checked):
    """The report of a rule counts its rows and shows the first ones: their id and the columns at fault."""
    report = checked[1]["events"].report()
    hour = next(fault for fault in report["failed"] if fault["rule"] == "hour out of bounds")
    cases = [case for case in ROWS if case.rule == hour["rule"]]
    assert hour["severity"] == "critical"
    assert (hour["column"], hour["broken"]) == ("hour", len(cases))
    assert hour["examples"] == [{name: case.rows[0][name] for name in ("event_id", "hour")} for case in cases]


@pytest.mark.parametrize("table", expectations.TABLES)
def test_an_absent_table_has_the_wrong_columns(tmp_path, table):
    """A table without a file is a broken table, not a crash."""
    write(tmp_path / "ingested", rich_tables(rows=60))
    for path in partitions.files(tmp_path / "ingested", table):
        path.unlink()
    assert failed(check(tmp_path, rich_schema())) == {(table, "wrong columns")}


def test_one_file_of_another_type_among_many_is_reported(tmp_path):
    """Types are those of each file, not of the first one."""
    tables = rich_tables()
    write(tmp_path / "ingested", tables)
    last = partitions.files(tmp_path / "ingested", "events")[-1]
    rows = pq.ParquetFile(last).read()
    index = rows.column_names.index("hour")
    pq.write_table(rows.set_column(index, "hour", rows["hour"].cast(pa.string())), last)
    results = check(tmp_path, rich_schema())
    assert failed(results) == {("events", "hour of another type")}
    assert results["events"].failed[0].examples == [{"observed": ["string"]}]


def test_ids_are_unique_across_batches(tmp_path):
    """Two rows with one event id are found although they are in different batches; both go to quarantine."""
    tables = rich_tables(rows=120)
    ids = tables["events"]["event_id"].to_pylist()
    ids[-1] = ids[0]
    tables["events"] = tables["events"].set_column(0, "event_id", pa.array(ids))
    write(tmp_path / "ingested", tables)
    results = check(tmp_path, rich_schema(), batch_rows=50)
    assert results["events"].quarantined == 2
    assert failed(results) == {("events", "repeated event_id")}


def test_events_of_a_quarantined_user_go_to_quarantine(tmp_path):
    """A user in quarantine is unknown to the events: no event is accepted without its user."""
    tables = rich_tables()
    levels = [9, *tables["users"]["level"].to_pylist()[1:]]
    tables["users"] = tables["users"].set_column(3, "level", pa.array(levels))
    write(tmp_path / "ingested", tables)
    results = check(tmp_path, rich_schema())
    first = tables["users"]["user_id"][0].as_py()
    rejected = pq.read_table(tmp_path / "quarantine/events.parquet").to_pylist()
    assert failed(results) == {("users", "level outside its values"), ("events", "unknown user")}
    assert {(row["user_id"], *row["reasons"]) for row in rejected} == {(first, "unknown user")}
    assert first not in {row["user_id"] for row in read(tmp_path / "out", "events")}


def test_integers_beyond_2_53_are_compared_exactly(tmp_path):
    """A neighbour of an allowed value or of a bound goes to quarantine, in a column with missing values too."""
    schema, tables = rich_schema(), rich_tables()
    code = Column(
        name="code",
        role=Role.FEATURE,
        dtype=DType.INT64,
        kind=Kind.CATEGORICAL,
        nullable=True,
        maximum=2**53 + 3,
        values=(2**53 + 1, 2**53 + 3, 2**53 + 5),
    )
    codes = [None, 2**53 + 1, 2**53, 2**53 + 2, 2**53 + 3, 2**53 + 5]
    column = pa.array((codes * 2)[: len(tables["users"])])
    tables["users"] = tables["users"].append_column("code", column)
    write(tmp_path / "ingested", tables)
    check(tmp_path, dataclasses.replace(schema, users=(*schema.users, code)), tolerance=1.0)
    rejected = pq.read_table(tmp_path / "quarantine" / "users.parquet").to_pylist()
    reasons = {row["code"]: row["reasons"] for row in rejected}
    assert reasons == {
        2**53: ["code outside its values"],
        2**53 + 2: ["code outside its values"],
        2**53 + 5: ["code out of bounds"],
    }


def test_bounds_of_a_float_column_are_included_as_float32(tmp_path):
    """0.1 as a bound is the float32 number next to it, as the values are; the float32 numbers beyond it are broken."""
    low, high = np.float32(0.1), np.float32(0.7)
    share = Column(
        name="share", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True, minimum=0.1, maximum=0.7
    )
    schema, tables = rich_schema(), rich_tables()
    below, above = np.nextafter(low, np.float32(0)), np.nextafter(high, np.float32(1))
    values = [None, low, below, high, above, np.float32("nan")]
    column = pa.array((values * 2)[: len(tables["users"])], pa.float32())
    tables["users"] = tables["users"].append_column("share", column)
    write(tmp_path / "ingested", tables)
    check(tmp_path, dataclasses.replace(schema, users=(*schema.users, share)), tolerance=1.0)
    rejected = pq.read_table(tmp_path / "quarantine" / "users.parquet")["share"].to_pylist()
    assert set(rejected) == {float(below), float(above)}
