"""Every rule of the raw log detects the broken rows and tables that break it, and no others."""

import datetime
import math
from collections import Counter

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from great_expectations.expectations import ExpectColumnValuesToNotBeNull
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from features.engine.arrow_types import arrow_schema
from features.quality import expectations, results
from features.schema import Column, DType, Schema
from tests.support import broken_tables
from tests.support.broken_tables import EPOCH
from tests.support.examples import examples
from tests.support.rich_world import (
    END,
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

DAY = datetime.timedelta(days=1)
TABLES = broken_tables.tables(rich_schema())


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """One run over valid tables with every broken row appended: folder and results."""
    folder = tmp_path_factory.mktemp("checked")
    return folder, check_broken_rows(folder)


def test_every_rule_has_a_broken_case():
    """Every rule has a broken case, and every case a rule."""
    rules = {
        (table, rule.name, rule.scope == "row")
        for table in expectations.TABLES
        for rule in expectations.rules(rich_schema(), table)
    }
    cases = {(case.table, case.rule, True) for case in ROWS} | {(case.table, case.rule, False) for case in TABLES}
    assert rules == cases


@pytest.mark.parametrize("case", ROWS, ids=lambda case: f"{case.table}: {case.rule} ({case.how})")
def test_broken_row_goes_to_quarantine_with_its_reason_only(checked, case):
    """A row that breaks one rule is in quarantine with all its columns and that one reason."""
    kept = pq.read_table(checked[0] / "quarantine" / f"{case.table}.parquet").to_pylist()
    expected = [as_text(row) for row in case.rows]
    rejected = [row for row in kept if as_text({name: row[name] for name in case.rows[0]}) in expected]
    assert [row["reasons"] for row in rejected] == [[case.rule]] * len(case.rows)


@pytest.mark.parametrize("case", TABLES, ids=lambda case: f"{case.table}: {case.rule} ({case.how})")
def test_broken_table_breaks_its_rule_only(tmp_path, case):
    """A broken table breaks one critical rule: the gate closes before a row is checked; a warning closes nothing."""
    tables = rich_tables(rows=60)
    write(tmp_path / "ingested", tables | {case.table: case.change(tables[case.table])})
    results_by_table = check(tmp_path, rich_schema())
    assert (case.table, case.rule) in failed(results_by_table)
    faults = [fault.rule.name for result in results_by_table.values() for fault in result.faults]
    warning = case.rule in ("scenario without rows", "click with one class only", "order with one class only")
    assert faults == [case.rule] * (not warning)
    assert results_by_table[case.table].passed == warning
    assert bool(read(tmp_path / "out", "events")) == warning
    assert pq.read_table(tmp_path / "quarantine" / f"{case.table}.parquet").num_rows == 0


def test_a_crash_of_a_metric_is_no_broken_data():
    """A rule that cannot be evaluated raises; Great Expectations would report a failed expectation."""
    rule = expectations.Rule(
        name="nowhere missing",
        scope="row",
        severity="critical",
        columns=["nowhere"],
        sentence="never",
        expectation=ExpectColumnValuesToNotBeNull(column="nowhere", meta={"rule": "nowhere missing"}),
    )
    with pytest.raises(RuntimeError, match="could not evaluate 'nowhere missing'"):
        results.run_rules(results.quiet_context(), [rule], pd.DataFrame({"here": [1]}))


def plain_reasons(
    schema: Schema, table: str, rows: list[broken_tables.Row], days: list, known: dict
) -> list[list[str]]:
    """The reasons of each row, by a plain loop over the rules."""
    key = {"events": "event_id", "users": "user_id", "items": "item_id"}[table]
    ids = [row[key] for row in rows]
    reasons = []
    for row, day in zip(rows, days, strict=True):
        why = [reason for column in schema.tables[table] for reason in _of_value(column, row[column.name])]
        why += [f"repeated {key}"] * (row[key] is not None and ids.count(row[key]) > 1)
        reasons.append(why + (_of_event(row, day, known) if table == "events" else []))
    return reasons


def _of_value(column: Column, value: object) -> list[str]:
    name = column.name
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return [] if column.nullable else [f"{name} missing"]
    allowed = column.values  # noqa: PD011
    if column.is_vector:
        why = [f"{name} of another length"] * (len(value) != column.length)
        finite = all(number is not None and math.isfinite(number) for number in value)
        return why + [f"{name} with a number that is not finite"] * (not finite)
    if column.is_list:
        foreign = allowed is not None and any(v is not None and v not in allowed for v in value)
        why = [f"{name} with a missing element"] * (None in value)
        return why + [f"{name} with an element outside its values"] * foreign
    is_timestamp = isinstance(value, datetime.datetime)
    least, most = (EPOCH, END) if is_timestamp and name == "timestamp" else (column.minimum, column.maximum)
    low = least is not None and value < least
    high = most is not None and value > most
    out = low or high or (isinstance(value, float) and math.isinf(value))
    foreign = allowed is not None and value not in allowed
    return [f"{name} out of bounds"] * out + [f"{name} outside its values"] * foreign


def _of_event(row: broken_tables.Row, day: datetime.date, known: dict) -> list[str]:
    why, timestamp = [], row["timestamp"]
    why += ["timestamp outside its day"] * (timestamp is not None and timestamp.date() != day)
    for table, key, known_at in (("users", "user_id", "registered_at"), ("items", "item_id", "listed_at")):
        since = known[table].get(row[key])
        why += [f"unknown {table[:-1]}"] * (row[key] is not None and since is None)
        why += [f"before {known_at}"] * (since is not None and timestamp is not None and timestamp < since)
    return why + ["order without click"] * (row["order"] == 1 and row["click"] != 1)


CELLS = st.lists(
    st.tuples(
        st.sampled_from(["events", "events", "users", "items"]),
        st.integers(0, 99),
        st.integers(0, 99),
        st.integers(0, 5),
    ),
    max_size=8,
)
WRONG = {
    DType.INT8: [None, 0, 1, 2, -1, 1],
    DType.INT64: [None, 0, 3, -1, 24, 10_000],
    DType.FLOAT32: [None, math.nan, math.inf, -1.0, 1000.5, 0.0],
    DType.STRING: [None, "", "feed", "moon", "search", "north"],
    DType.TIMESTAMP: [None, *(datetime.datetime(2026, 1, 5) + days * DAY for days in (-200, -30_000, 0, 2, 300))],
    DType.INT64_LIST: [None, [], [None], [1, None], [5], [1, 2, 3]],
    DType.STRING_LIST: [None, [], [None], ["red"], ["red", "moon"], ["blue", None]],
    DType.FLOAT32_LIST: [None, [], [1.0] * 3, [0.5, None, 1.0, 2.0], [math.nan, math.inf, 0.0, 1.0], [-1.0] * 5],
}


@given(cells=CELLS, batch_rows=st.sampled_from([30, 1000]))
@example(cells=[("items", row, 6, row) for row in range(6)], batch_rows=30)  # every wrong vector
@example(  # an order whose click is 2: outside its values, and not 1
    cells=[("events", 96, 0, 0), ("events", 78, 55, 0), *[("events", 0, 0, 0)] * 2, ("events", 2, 62, 3)], batch_rows=30
)
@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_a_plain_check(tmp_path_factory, cells, batch_rows):
    """For any corrupted cells and any batch size the reasons are those of a plain loop over the rows."""
    schema, folder = rich_schema(), tmp_path_factory.mktemp("world")
    tables, days = corrupted(schema, cells)
    write(folder / "ingested", tables, days)
    results_by_table, known = check(folder, schema, batch_rows=batch_rows), {}
    for name, known_at in (("users", "registered_at"), ("items", "listed_at"), ("events", "timestamp")):
        rows, key = tables[name].to_pylist(), schema.tables[name][0].name
        reasons = plain_reasons(schema, name, rows, days if name == "events" else [None] * len(rows), known)
        known[name] = {row[key]: row[known_at] for row, why in zip(rows, reasons, strict=True) if not why}
        expected = sorted((as_text(row), sorted(why)) for row, why in zip(rows, reasons, strict=True) if why)
        quarantined = pq.read_table(folder / "quarantine" / f"{name}.parquet").to_pylist()
        rejected = sorted((sorted(row.pop("reasons")), as_text(row))[::-1] for row in quarantined)
        assert rejected == expected
        counts = {o.rule.name: o.broken for o in results_by_table[name].failed if o.rule.scope == "row"}
        assert counts == Counter(reason for why in reasons for reason in why)


def corrupted(
    schema: Schema, cells: list[tuple[str, int, int, int]]
) -> tuple[broken_tables.Tables, list[datetime.date]]:
    """Valid tables with a few cells (table, row, column, value) replaced, and the days of the files of the events."""
    rows = {name: table.to_pylist() for name, table in rich_tables(rows=60).items()}
    days = [row["timestamp"].date() for row in rows["events"]]
    for name, row, column, value in cells:
        chosen = schema.tables[name][column % len(schema.tables[name])]
        rows[name][row % len(rows[name])][chosen.name] = WRONG[chosen.dtype][value]
    stored = {name: arrow_schema(schema.tables[name]) for name in rows}
    return {name: pa.Table.from_pylist(rows[name], stored[name]) for name in rows}, days
