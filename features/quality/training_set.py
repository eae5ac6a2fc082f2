"""The quality gate of the training set: train.parquet, valid.parquet and test.parquet against their sources.

No accepted event is lost, doubled or made up, every column has its declared type, a split by time does not overlap,
the features are as recent as the impressions, and few impressions lack the features of a view.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import great_expectations.expectations as gxe
import pyarrow as pa
from great_expectations.data_context import AbstractDataContext

from common.params import Inspect
from common.stored_files import is_stored, read_schema, row_count
from features.engine import sql
from features.engine.arrow_types import TYPES
from features.engine.connection import connect
from features.quality import gate, partitions
from features.quality.datadocs import QualityGate
from features.quality.gate import Measurements, SuiteResult
from features.quality.results import quiet_context
from features.quality.rule import Rule, expect, expect_equal, expect_zero
from features.schema import EVENT_TIMESTAMP, SPLITS, Schema, View

ANOTHER_TYPE = "column of another type"
GATE = QualityGate(
    name="training",
    title="Training set",
    remedy="Run `dvc repro --force join` again; if the fault persists, check features/store/point_in_time.py and its "
    "input.",
)


def check_training(
    schema: Schema,
    views: tuple[View, ...],
    settings: Inspect,
    *,
    validated: Path,
    features: Path,
    training: Path,
    by_time: bool,
) -> list[SuiteResult]:
    """A suite per split, and one on all three together, which needs columns that are as declared.

    Args:
        schema: Declaration of the data set.
        views: The views that were joined.
        settings: Limits of the rules.
        validated: Folder of the accepted events.
        features: Folder of the views' Parquet files.
        training: Folder of the three files.
        by_time: Whether the split is by time.
    """
    context = quiet_context()
    suites = [_check_split(context, schema, views, settings, training / f"{name}.parquet") for name in SPLITS]
    if any(fault.rule.name == ANOTHER_TYPE for suite in suites for fault in suite.faults):
        return suites
    with connect() as connection:
        _open(connection, schema, validated, training)
        measurements = [
            _events(connection, schema),
            *(_order(connection) for _ in range(by_time)),
            _freshness(connection, views, features, settings),
        ]
    return [
        *suites,
        SuiteResult(name="together", rows=sum(s.rows for s in suites), outcomes=gate.evaluate(context, *measurements)),
    ]


def _check_split(
    context: AbstractDataContext, schema: Schema, views: tuple[View, ...], settings: Inspect, path: Path
) -> SuiteResult:
    """Columns and types of one file; where they are as declared, its rows and the features that they lack."""
    rows = row_count(path) if is_stored(path) else partitions.count([path] if path.is_file() else [])
    outcomes = gate.evaluate(context, _columns(schema, views, path))
    if all(outcome.success for outcome in outcomes):
        outcomes.append(gate.evaluate_row_count(context, _has_rows(path.stem), rows))
        with connect() as connection:
            outcomes += gate.evaluate(context, _missing(connection, views, path, settings))
    return SuiteResult(name=path.stem, rows=rows, outcomes=outcomes)


def _columns(schema: Schema, views: tuple[View, ...], path: Path) -> Measurements:
    """The actual and the declared type of every column that is stored or declared."""
    declared = (*schema.events, *(column for view in views for column in view.columns))
    wanted = {column.name: partitions.type_name(TYPES[column.dtype]) for column in declared}
    actual = partitions.columns_of(read_schema(path)) if is_stored(path) else partitions.structure(path)
    names = list(wanted | actual)
    table = pa.table(
        {
            "column": names,
            "type": [actual.get(name, "absent") for name in names],
            "wanted type": [wanted.get(name, "not declared") for name in names],
        }
    )
    rule = expect_equal(ANOTHER_TYPE, "type", "Every column is there with its declared type, and no other")
    return Measurements(key="column", rows=table, rules=(rule,))


def _has_rows(split: str) -> Rule:
    kind = gxe.ExpectTableRowCountToBeBetween
    return expect(kind, "table", "no rows", [], f"{split} has at least one row", min_value=1)


def _missing(
    connection: duckdb.DuckDBPyConnection, views: tuple[View, ...], path: Path, settings: Inspect
) -> Measurements:
    """Share of the impressions that have no row of a view: every column of it is null."""
    absent = (" and ".join(f"{sql.column(column.name)} is null" for column in view.columns) for view in views)
    shares = ", ".join(f"round(avg(({test})::int), 4)" for test in absent)
    values = _one(connection, f"select {shares} from {sql.parquet(path)}")
    limit = settings.missing_view_share
    rule = expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "view missing too often",
        ["share without a row"],
        f"At most {limit:.0%} of the impressions have no row of a view",
        severity="warning",
        column="share without a row",
        max_value=limit,
    )
    rows = pa.table({"view": [view.name for view in views], "share without a row": pa.array(values, pa.float64())})
    return Measurements(key="view", rows=rows, rules=(rule,))


def _open(connection: duckdb.DuckDBPyConnection, schema: Schema, validated: Path, training: Path) -> None:
    """Create the views `accepted` (id) and `joined` (id, occurred_at, and split as its index in SPLITS)."""
    event_id, timestamp = sql.column(schema.event_id), sql.column(schema.timestamp)
    events = sql.parquet(validated / "events", "*/*.parquet")
    connection.execute(f"create view accepted as select {event_id} as id from {events}")
    parts = (
        f"select {event_id} as id, {timestamp} as occurred_at, {index} as split "
        f"from {sql.parquet(training / f'{name}.parquet')}"
        for index, name in enumerate(SPLITS)
    )
    connection.execute(f"create view joined as {' union all '.join(parts)}")


def _events(connection: duckdb.DuckDBPyConnection, schema: Schema) -> Measurements:
    """The events of the three files against the accepted ones."""
    (accepted,) = _one(connection, "select count(*) from accepted")
    (rows,) = _one(connection, "select count(*) from joined")
    measurements: dict[str, Any] = {"files": "train, valid and test", "rows": rows, "wanted rows": accepted}
    for name, query in (
        ("lost", "select id from accepted anti join joined using (id)"),
        ("foreign", "select id from joined anti join accepted using (id)"),
        ("repeated", "select id from joined group by id having count(*) > 1"),
    ):
        first = f"min(id, {gate.SHOWN})"
        count, ids = _one(connection, f"select count(*), {first} from ({query})")
        measurements |= {f"{name} events": count, f"first {name}": gate.first_few(ids or ())}
    sentence = "Train, valid and test have together as many rows as there are accepted events"
    rules = (
        expect_equal("rows lost or added", "rows", sentence),
        *(_no_event(name, schema.event_id) for name in ("lost", "foreign", "repeated")),
    )
    return Measurements(key="files", rows=pa.Table.from_pylist([measurements]), rules=rules)


def _no_event(fault: str, key: str) -> Rule:
    sentence = {
        "lost": f"Every {key} of the accepted events is in one of the files",
        "foreign": f"Every {key} of the files is that of an accepted event",
        "repeated": f"No {key} occurs twice, in one file or in two",
    }[fault]
    column = f"{fault} events"
    return expect_zero(column, [f"first {fault}"], sentence)


def _order(connection: duckdb.DuckDBPyConnection) -> Measurements:
    """First and last timestamp of each split of a split by time."""
    rows = connection.execute("select split, min(occurred_at), max(occurred_at) from joined group by split").fetchall()
    spans = {index: (first, last) for index, first, last in rows}
    first, last = ([spans.get(index, (None, None))[end] for index in range(len(SPLITS))] for end in (0, 1))
    timestamps = {"first": first, "last": last, "last of the split before": [None, *last[:-1]]}
    columns = {name: pa.array(values, pa.timestamp("us")) for name, values in timestamps.items()}
    rule = expect(
        gxe.ExpectColumnPairValuesAToBeGreaterThanB,
        "row",
        "splits overlap",
        ["first", "last of the split before"],
        "Each split begins after the last impression of the one before it",
        column_A="first",
        column_B="last of the split before",
        ignore_row_if="either_value_is_missing",
    )
    return Measurements(key="split", rows=pa.table({"split": list(SPLITS), **columns}), rules=(rule,))


def _freshness(
    connection: duckdb.DuckDBPyConnection, views: tuple[View, ...], features: Path, settings: Inspect
) -> Measurements:
    """The newest row of each view and the days from it to the newest impression (below 0: the row is the newer one)."""
    (impression,) = _one(connection, "select max(occurred_at) from joined")
    measurements = []
    for view in views:
        source = sql.parquet(features / f"{view.name}.parquet")
        snapshots, newest = _one(connection, f"select count(*), max({EVENT_TIMESTAMP}) from {source}")
        age = round((impression - newest).total_seconds() / 86_400, 3) if impression and newest else None
        measurements.append(
            {
                "view": view.name,
                "snapshots": snapshots,
                "newest snapshot": newest,
                "newest impression": impression,
                "days behind": age,
            }
        )
    types = pa.schema(
        [
            ("view", pa.string()),
            ("snapshots", pa.int64()),
            ("newest snapshot", pa.timestamp("us")),
            ("newest impression", pa.timestamp("us")),
            ("days behind", pa.float64()),
        ]
    )
    return Measurements(
        key="view", rows=pa.Table.from_pylist(measurements, types), rules=tuple(_recent(settings.outdated_days))
    )


def _recent(days: float) -> Iterator[Rule]:
    shown = ["days behind", "newest snapshot", "newest impression"]
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "view without rows",
        ["snapshots"],
        "Every view has at least one snapshot",
        column="snapshots",
        min_value=1,
    )
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "outdated view",
        shown,
        f"The newest snapshot of a view is at most {days:g} days older than the newest impression",
        column="days behind",
        max_value=days,
    )
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "view ahead of its time",
        shown,
        f"The newest snapshot of a view is at most {days:g} days newer than the newest impression",
        severity="warning",
        column="days behind",
        min_value=-days,
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The only row of a query."""
    return connection.execute(query).fetchone() or ()
