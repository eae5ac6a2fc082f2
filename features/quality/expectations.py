"""What must hold for each table: Great Expectations made from the schema.

Three scopes, because a log need not fit into memory:

    structure  columns and their types; evaluated on a frame that holds the name of each column's type
    table      facts about the whole table; evaluated on its row count and its distinct labels and scenarios
    row        facts about one row; evaluated batch by batch, and a row that breaks one goes to quarantine

Some rules need a column that no row has by itself (how often its id occurs, when its user registered, ...):
features/quality/derived_columns.py adds them under the names given here.
"""

import datetime
import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import great_expectations.expectations as gxe
import numpy as np
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column as Condition

from features.engine.arrow_types import TYPES
from features.quality.partitions import FILE_DAY, type_name
from features.schema import Column, DType, Role, Schema, Task

Scope = Literal["structure", "table", "row"]
Severity = Literal["critical", "warning"]
TABLES = ("users", "items", "events")  # in the order of their checks: events know users and items

_NUMBERS = frozenset({DType.INT8, DType.INT64, DType.FLOAT32})
_LARGEST = float(np.finfo(np.float32).max)
_EPOCH = datetime.datetime(1970, 1, 1)

EVENT_DAY = "day of the event"


def copies(name: str) -> str:
    """Column of facts: how many rows of the table have this id."""
    return f"copies of {name}"


def known(table: str) -> str:
    """Column of facts: how many accepted rows of `users` or `items` the event refers to, 0 or 1."""
    return f"rows of {table}"


def gaps(name: str) -> str:
    """Column of facts: how many elements of the list are missing."""
    return f"missing elements of {name}"


def within(name: str) -> str:
    """Column of facts: whether the moment lies within its bounds, 0 or 1."""
    return f"{name} within its bounds"


def strangers(name: str) -> str:
    """Column of facts: how many elements of the list are outside the declared values."""
    return f"foreign elements of {name}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An expectation and what the report says of it.

    `name` is a short name of the fault and the reason in quarantine, `sentence` says what must hold, `columns`
    are those that show a fault, the one at fault first. A broken warning never closes the gate.
    """

    name: str
    scope: Scope
    severity: Severity
    columns: list[str]
    sentence: str
    expectation: Expectation


def rules(schema: Schema, table: str) -> tuple[Rule, ...]:
    """Every rule for `table`: events, users or items."""
    return (*_structure(schema, table), *_whole(schema, table), *_rows(schema, table))


def identifier(schema: Schema, table: str) -> str:
    """Name of the column that identifies a row of `table`."""
    return {"events": schema.event_id, "users": schema.user, "items": schema.item}[table]


def values(schema: Schema, column: Column) -> tuple[str | int, ...] | None:
    """The closed set of values of a column, or None where it is open."""
    classes = {task.name: task.classes for task in schema.tasks if task.classes is not None}
    defaults = {Role.LABEL: classes.get(column.name, (0, 1)), Role.SCENARIO: schema.scenarios}
    return column.values if column.values is not None else defaults.get(column.role)


def _structure(schema: Schema, table: str) -> Iterator[Rule]:
    names = [column.name for column in schema.tables[table]]
    yield expect(
        gxe.ExpectTableColumnsToMatchOrderedList,
        "structure",
        "wrong columns",
        [],
        f"{table} has the columns {', '.join(names)}, in this order",
        column_list=names,
    )
    for column in schema.tables[table]:
        wanted = type_name(TYPES[column.dtype])
        yield expect(
            gxe.ExpectColumnValuesToBeInSet,
            "structure",
            f"{column.name} of another type",
            [column.name],
            f"{column.name} is stored as {wanted}",
            column=column.name,
            value_set=[wanted],
        )


def _whole(schema: Schema, table: str) -> Iterator[Rule]:
    yield expect(
        gxe.ExpectTableRowCountToBeBetween, "table", "no rows", [], f"{table} has at least one row", min_value=1
    )
    if table != "events":
        return
    yield expect(
        gxe.ExpectColumnDistinctValuesToContainSet,
        "table",
        "scenario without rows",
        [schema.scenario],
        f"Every scenario has rows: {_listed(schema.scenarios)}",
        severity="warning",
        column=schema.scenario,
        value_set=list(schema.scenarios),
    )
    for task in schema.tasks:
        yield _varied(task)


def _varied(task: Task) -> Rule:
    """What is always the same teaches nothing."""
    if task.classes is not None:
        return expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "table",
            f"{task.name} without some of its classes",
            [task.name],
            f"Every class of {task.name} occurs: {_listed(task.classes)}",
            severity="warning",
            column=task.name,
            value_set=list(task.classes),
        )
    return expect(
        gxe.ExpectColumnDistinctValuesToContainSet,
        "table",
        f"{task.name} with one class only",
        [task.name],
        f"{task.name} is 1 in some rows and 0 in others",
        severity="warning",
        column=task.name,
        value_set=[0, 1],
    )


def _rows(schema: Schema, table: str) -> Iterator[Rule]:
    for column in schema.tables[table]:
        yield from _of_column(schema, column)
    key = identifier(schema, table)
    yield expect(
        gxe.ExpectColumnValuesToBeInSet,
        "row",
        f"repeated {key}",
        [key, copies(key)],
        f"{key} is unique",
        column=copies(key),
        value_set=[1],
    )
    if table == "events":
        yield from _across_columns(schema)


def _of_column(schema: Schema, column: Column) -> Iterator[Rule]:
    name = column.name
    if not column.nullable:
        yield expect(
            gxe.ExpectColumnValuesToNotBeNull, "row", f"{name} missing", [name], f"{name} is never missing", column=name
        )
    if column.is_list:
        yield from _of_elements(column)
        return
    if column.dtype is DType.TIMESTAMP and any(moments(column)):
        yield expect(  # not the column itself: Great Expectations compares moment by moment
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{name} out of bounds",
            [name],
            f"{name} {_interval(column)}",
            column=within(name),
            value_set=[1],
        )
    low, high = _bounds(column)
    if low is not None or high is not None:
        yield expect(
            gxe.ExpectColumnValuesToBeBetween,
            "row",
            f"{name} out of bounds",
            [name],
            f"{name} {_interval(column)}",
            column=name,
            min_value=low,
            max_value=high,
        )
    allowed = values(schema, column)
    if allowed is not None:
        yield expect(
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{name} outside its values",
            [name],
            f"{name} is one of {_listed(allowed)}",
            column=name,
            value_set=list(allowed),
        )


def _of_elements(column: Column) -> Iterator[Rule]:
    name = column.name
    yield expect(
        gxe.ExpectColumnValuesToBeInSet,
        "row",
        f"{name} with a missing element",
        [name],
        f"No element of {name} is missing",
        column=gaps(name),
        value_set=[0],
    )
    if column.values is not None:
        yield expect(
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{name} with an element outside its values",
            [name],
            f"Each element of {name} is one of {_listed(column.values)}",
            column=strangers(name),
            value_set=[0],
        )


def _across_columns(schema: Schema) -> Iterator[Rule]:
    yield expect(
        gxe.ExpectColumnPairValuesToBeEqual,
        "row",
        f"{schema.timestamp} outside its day",
        [schema.timestamp, FILE_DAY],
        f"{schema.timestamp} lies in the day that its file is named for",
        column_A=EVENT_DAY,
        column_B=FILE_DAY,
        ignore_row_if="either_value_is_missing",
    )
    for table, key in (("users", schema.user), ("items", schema.item)):
        yield from _known_before(schema, table, key)
    for task in schema.tasks:
        if task.requires is not None:
            yield _implied(schema, task, task.requires)


def _known_before(schema: Schema, table: str, key: str) -> Iterator[Rule]:
    kind = table.removesuffix("s")
    yield expect(
        gxe.ExpectColumnValuesToBeInSet,
        "row",
        f"unknown {kind}",
        [key],
        f"{key} is an accepted row of {table}",
        column=known(table),
        value_set=[1],
    )
    moment = schema.known_at(table)
    if moment is not None:
        yield expect(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            "row",
            f"before {moment}",
            [schema.timestamp, key, moment],
            f"No event lies before {moment} of its {kind}",
            column_A=schema.timestamp,
            column_B=moment,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
        )


def _implied(schema: Schema, task: Task, required: str) -> Rule:
    """Wherever `task` is 1, `required` is 1 too; a missing label there breaks the rule as well."""
    return expect(
        gxe.ExpectColumnPairValuesAToBeGreaterThanB,
        "row",
        f"{task.name} without {required}",
        [task.name, required],
        f"{required} is 1 wherever {task.name} is 1",
        column_A=required,
        column_B=task.name,
        or_equal=True,
        ignore_row_if="neither",
        row_condition=Condition(task.name) == 1,
    )


def expect(
    kind: type[Expectation],
    scope: Scope,
    name: str,
    columns: list[str],
    sentence: str,
    *,
    severity: Severity = "critical",
    **arguments: Any,
) -> Rule:
    """The rule that asks an expectation of `kind` with `arguments`; see Rule for the rest."""
    told = html.escape(sentence + " (a warning only)" * (severity == "warning")).replace("$", "$$")
    expectation = kind(**arguments, severity=FailureSeverity(severity), meta={"rule": name}, description=told)
    return Rule(name=name, scope=scope, severity=severity, columns=columns, sentence=sentence, expectation=expectation)


def moments(column: Column) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """Bounds of a timestamp, both included; an event never lies before 1970."""
    first = 0 if column.role is Role.TIMESTAMP and column.minimum is None else column.minimum
    low, high = (None if s is None else _EPOCH + datetime.timedelta(seconds=s) for s in (first, column.maximum))
    return low, high


def _bounds(column: Column) -> tuple[float | None, float | None]:
    """Bounds of a number, both included; a float is at least finite."""
    if column.dtype not in _NUMBERS:
        return None, None
    finite = column.dtype is DType.FLOAT32
    low = -_LARGEST if finite and column.minimum is None else column.minimum
    high = _LARGEST if finite and column.maximum is None else column.maximum
    return low, high


def _interval(column: Column) -> str:
    if column.dtype is DType.TIMESTAMP:
        sides = zip(("not before", "not after"), moments(column), strict=True)
        return "is " + " and ".join(f"{side} {bound}" for side, bound in sides if bound is not None)
    bounds = (("at least", column.minimum), ("at most", column.maximum))
    return "is " + (" and ".join(f"{side} {bound:,.10g}" for side, bound in bounds if bound is not None) or "finite")


def _listed(items: tuple[str | int, ...], most: int = 12) -> str:
    rest = [f"... ({len(items)} in all)"] * (len(items) > most)
    return ", ".join([*map(str, items[:most]), *rest])
