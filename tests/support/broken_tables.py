"""Broken rows and broken tables, made from a schema: a case for each rule of features/quality/expectations.py.

A new rule without a case here fails tests/features/quality/test_expectations.py. Rules about rows get rows to append
to a valid table, all of which break that rule and no other; rules about a table get a change of the table.
"""

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.schema import Column, DType, Role, Schema

Row = dict[str, Any]
Tables = dict[str, pa.Table]

TINY = datetime.timedelta(microseconds=1)
FAR = datetime.timedelta(days=3650)
OTHER_TYPE = {
    DType.INT8: pa.int64(),
    DType.INT64: pa.float64(),
    DType.FLOAT32: pa.float64(),
    DType.STRING: pa.binary(),
    DType.TIMESTAMP: pa.int64(),
    DType.INT64_LIST: pa.list_(pa.float64()),
    DType.STRING_LIST: pa.list_(pa.binary()),
    DType.FLOAT32_LIST: pa.list_(pa.float64()),
}
EPOCH = datetime.datetime(1970, 1, 1)
_NUMBER: dict[DType, Callable[[float], Any]] = defaultdict(lambda: int) | {
    DType.FLOAT32: float,
    DType.TIMESTAMP: lambda seconds: EPOCH + datetime.timedelta(seconds=seconds),
}
FOREIGN = {DType.INT8: 99, DType.INT64: 987_654, DType.STRING: "foreign"}


@dataclass(frozen=True, kw_only=True)
class BrokenRows:
    """Rows that break `rule` of `table`; `day` is the day of their file where it is not that of their timestamp."""

    table: str
    rule: str
    how: str
    rows: list[Row]
    day: datetime.date | None = None


@dataclass(frozen=True, kw_only=True)
class BrokenTable:
    """A change of the tables that breaks `rule` of `table`."""

    table: str
    rule: str
    how: str
    change: Callable[[pa.Table], pa.Table]


def rows(schema: Schema, tables: Tables) -> list[BrokenRows]:
    """At least one case for every rule about rows; `tables` are valid."""
    keys = {"events": schema.event_id, "users": schema.user, "items": schema.item}
    cases = [case for table in tables for case in _row_cases(schema, tables, table, keys[table])]
    return [_with_fresh_ids(case, keys[case.table], index) for index, case in enumerate(cases)]


def tables(schema: Schema) -> list[BrokenTable]:
    """At least one case for every rule about columns, types and whole tables."""
    return [case for table in schema.tables for case in (*_structures(schema, table), *_wholes(schema, table))]


def _with_fresh_ids(case: BrokenRows, key: str, index: int) -> BrokenRows:
    """Ids that no valid row has, one per case: the rows of a case that share an id go on to share it."""
    fresh = [row | {key: row[key] if row[key] is None else _fresh(row[key], index)} for row in case.rows]
    return BrokenRows(table=case.table, rule=case.rule, how=case.how, rows=fresh, day=case.day)


def _fresh(known: int | str, index: int) -> int | str:
    return 1_000_000 + index if isinstance(known, int) else f"fresh {index}"


def _row_cases(schema: Schema, valid: Tables, table: str, key: str) -> Iterator[BrokenRows]:
    template = _template(schema, valid, table)
    for column in schema.tables[table]:
        for rule, how, value in _wrong_values(schema, column):
            moved = table != "events" or isinstance(value, datetime.datetime)  # to the file of its day
            day = None if moved else template[schema.timestamp].date()
            yield BrokenRows(table=table, rule=rule, how=how, rows=[template | {column.name: value}], day=day)
    yield BrokenRows(table=table, rule=f"repeated {key}", how="twice", rows=[template, template])
    if table == "events":
        yield from _across(schema, valid, template)


def _template(schema: Schema, valid: Tables, table: str) -> Row:
    """A valid row to break; that of an event has no positive label, so that none of them implies another."""
    chosen = valid[table]
    for name in schema.task_names if table == "events" else ():
        chosen = chosen.filter(pc.equal(chosen[name], 0))
    return chosen.slice(0, 1).to_pylist()[0]


def _wrong_values(schema: Schema, column: Column) -> Iterator[tuple[str, str, Any]]:
    name, number = column.name, _NUMBER[column.dtype]
    if not column.nullable:
        yield f"{name} missing", "null", None
    if not column.nullable and column.dtype is DType.FLOAT32:
        yield f"{name} missing", "not a number", float("nan")
    if column.dtype is DType.FLOAT32:
        yield from ((f"{name} out of bounds", str(value), value) for value in (float("inf"), -float("inf")))
    if column.minimum is not None and column.dtype is not DType.TIMESTAMP:  # nothing else is that early, either
        yield f"{name} out of bounds", "below", number(column.minimum - 1)
    if column.maximum is not None:
        yield f"{name} out of bounds", "above", number(column.maximum + 1)
    elif column.dtype is DType.TIMESTAMP:
        yield f"{name} out of bounds", "in the year 2200", datetime.datetime(2200, 1, 1)
    if column.is_list:
        yield from _wrong_lists(column)
    elif column.is_vector:
        yield from _wrong_vectors(column)
    elif column.values is not None or column.role in (Role.SCENARIO, Role.LABEL):
        yield f"{name} outside its values", "foreign", FOREIGN[column.dtype]


def _wrong_lists(column: Column) -> Iterator[tuple[str, str, Any]]:
    yield f"{column.name} with a missing element", "null in a list", [None]
    if column.values is not None:
        foreign = 987_654 if column.dtype is DType.INT64_LIST else "foreign"
        yield f"{column.name} with an element outside its values", "foreign", [column.values[0], foreign]


def _wrong_vectors(column: Column) -> Iterator[tuple[str, str, Any]]:
    vector = [0.5] * (column.length or 0)
    for how, wrong in {"one too few": vector[1:], "one too many": [*vector, 0.5], "empty": []}.items():
        yield f"{column.name} of another length", how, wrong
    for value in (None, float("nan"), float("inf"), -float("inf")):
        yield f"{column.name} with a number that is not finite", str(value), [*vector[1:], value]


def _across(schema: Schema, valid: Tables, template: Row) -> Iterator[BrokenRows]:
    timestamp = template[schema.timestamp]
    yield BrokenRows(
        table="events",
        rule=f"{schema.timestamp} outside its day",
        how="in the file of the next day",
        rows=[template],
        day=timestamp.date() + datetime.timedelta(days=1),
    )
    for table, key in (("users", schema.user), ("items", schema.item)):
        yield _case(f"unknown {table[:-1]}", "no such row", template | {key: _fresh(template[key], 0)})
        if known_at := schema.known_at(table):
            yield _case(f"before {known_at}", "a microsecond early", _early(schema, valid, table, template))
    for task in schema.tasks:
        if task.requires:
            yield _case(f"{task.name} without {task.requires}", "0", template | {task.name: 1, task.requires: 0})
        if task.requires and _nullable(schema, task.requires):
            yield _case(f"{task.name} without {task.requires}", "null", template | {task.name: 1, task.requires: None})


def _case(rule: str, how: str, row: Row) -> BrokenRows:
    return BrokenRows(table="events", rule=rule, how=how, rows=[row])


def _nullable(schema: Schema, name: str) -> bool:
    return next(column.nullable for column in schema.events if column.name == name)


def _early(schema: Schema, valid: Tables, table: str, template: Row) -> Row:
    """An event just before its user (or item) is known, and not before the other one is."""
    newest, oldest = (users_or_items(schema, valid, name) for name in ("users", "items"))
    if table == "items":
        newest, oldest = oldest, newest
    late, early = max(newest, key=lambda pair: pair[1]), min(oldest, key=lambda pair: pair[1])
    keys = (schema.user, schema.item) if table == "users" else (schema.item, schema.user)
    return template | {schema.timestamp: late[1] - TINY, keys[0]: late[0], keys[1]: early[0]}


def users_or_items(schema: Schema, valid: Tables, table: str) -> list[tuple[Any, datetime.datetime]]:
    """The id of each row and the timestamp from which it is known (the earliest, where the schema has none)."""
    key, known_at = schema.user if table == "users" else schema.item, schema.known_at(table)
    return [(row[key], row[known_at] if known_at else datetime.datetime.min) for row in valid[table].to_pylist()]


def _structures(schema: Schema, table: str) -> Iterator[BrokenTable]:
    columns = schema.tables[table]
    first = columns[0].name
    for how, change in {
        "one is absent": lambda rows: rows.drop_columns(first),
        "one is renamed": lambda rows: rows.rename_columns(["renamed", *rows.column_names[1:]]),
        "one is too many": lambda rows: rows.append_column("more", rows[first]),
        "in another order": lambda rows: rows.select(rows.column_names[::-1]),
    }.items():
        yield BrokenTable(table=table, rule="wrong columns", how=how, change=change)
    for column in columns:
        yield BrokenTable(
            table=table,
            rule=f"{column.name} of another type",
            how=str(OTHER_TYPE[column.dtype]),
            change=lambda rows, column=column: _cast(rows, column),
        )


def _cast(rows: pa.Table, column: Column) -> pa.Table:
    index = rows.column_names.index(column.name)
    return rows.set_column(index, column.name, rows[column.name].cast(OTHER_TYPE[column.dtype]))


def _wholes(schema: Schema, table: str) -> Iterator[BrokenTable]:
    yield BrokenTable(table=table, rule="no rows", how="empty", change=lambda rows: rows.slice(0, 0))
    if table != "events":
        return
    yield BrokenTable(
        table=table,
        rule="scenario without rows",
        how="its rows are left out",
        change=lambda rows: rows.filter(pc.not_equal(rows[schema.scenario], schema.scenarios[-1])),
    )
    required = {task.requires for task in schema.tasks}
    for task in schema.task_names:
        constant = int(task in required)  # so that no label loses the one that it requires
        yield BrokenTable(
            table=table,
            rule=f"{task} with one class only",
            how=f"always {constant}",
            change=lambda rows, task=task, constant=constant: _constant(rows, task, constant),
        )


def _constant(rows: pa.Table, name: str, value: int) -> pa.Table:
    index = rows.column_names.index(name)
    return rows.set_column(index, name, pa.repeat(pa.scalar(value, rows.schema.field(index).type), len(rows)))
