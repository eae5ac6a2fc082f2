"""The rules of each table of the raw log: expectations of Great Expectations, made from the schema.

Three scopes, because a log need not fit into memory:

    structure  columns and their types; evaluated on a frame that holds the name of each column's type
    table      properties of the whole table; evaluated on its row count and its distinct labels and scenarios
    row        properties of one row; evaluated batch by batch, and a row that breaks one goes to quarantine

Some rules need a column that no row has (how often its id occurs, when its user registered, ...):
features/quality/derived_columns.py computes it.
"""

from collections.abc import Iterator

import great_expectations.expectations as gxe
from great_expectations.expectations.row_conditions import Column as Condition

from features.engine.arrow_types import TYPES
from features.quality.bounds import allowed_values, describe_bounds, listed, number_bounds
from features.quality.derived_columns import (
    EVENT_DAY,
    copies,
    foreign_elements,
    id_column,
    known,
    missing_elements,
    not_finite,
    numbers_of,
    within_bounds,
)
from features.quality.partitions import FILE_DAY, type_name
from features.quality.rule import Rule, expect
from features.schema import Column, DType, Schema, Task, TaskKind

TABLES = ("users", "items", "events")  # in the order of their checks: events refer to users and items


def rules(schema: Schema, table: str) -> tuple[Rule, ...]:
    """Every rule of `table`: events, users or items."""
    return (*_structure(schema, table), *_whole(schema, table), *_rows(schema, table))


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
        expected = type_name(TYPES[column.dtype])
        yield expect(
            gxe.ExpectColumnValuesToBeInSet,
            "structure",
            f"{column.name} of another type",
            [column.name],
            f"{column.name} is stored as {expected}",
            column=column.name,
            value_set=[expected],
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
        f"Every scenario has rows: {listed(schema.scenarios)}",
        severity="warning",
        column=schema.scenario,
        value_set=list(schema.scenarios),
    )
    for task in schema.tasks:
        yield _has_all_classes(task)


def _has_all_classes(task: Task) -> Rule:
    """The rule that a label varies: a constant one cannot be learned."""
    if task.classes is not None:
        return expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "table",
            f"{task.name} without some of its classes",
            [task.name],
            f"Every class of {task.name} occurs: {listed(task.classes)}",
            severity="warning",
            column=task.name,
            value_set=list(task.classes),
        )
    if task.kind is TaskKind.REGRESSION:
        return expect(
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            "table",
            f"{task.name} with one value only",
            [task.name],
            f"{task.name} differs between rows",
            severity="warning",
            column=task.name,
            min_value=2,
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
    key = id_column(schema, table)
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
    if column.is_list or column.is_vector:
        yield from _of_numbers(column) if column.is_vector else _of_elements(column)
        return
    if column.dtype is DType.TIMESTAMP:
        yield expect(  # on a derived column: Great Expectations compares timestamps one by one
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{name} out of bounds",
            [name],
            f"{name} {describe_bounds(column)}",
            column=within_bounds(name),
            value_set=[1],
        )
    low, high = number_bounds(column)
    if low is not None or high is not None:
        yield expect(
            gxe.ExpectColumnValuesToBeBetween,
            "row",
            f"{name} out of bounds",
            [name],
            f"{name} {describe_bounds(column)}",
            column=name,
            min_value=low,
            max_value=high,
        )
    allowed = allowed_values(schema, column)
    if allowed is not None:
        yield expect(
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{name} outside its values",
            [name],
            f"{name} is one of {listed(allowed)}",
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
        column=missing_elements(name),
        value_set=[0],
    )
    if column.values is not None:
        yield expect(
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{name} with an element outside its values",
            [name],
            f"Each element of {name} is one of {listed(column.values)}",
            column=foreign_elements(name),
            value_set=[0],
        )


def _of_numbers(column: Column) -> Iterator[Rule]:
    """The rules of a vector; what shows a fault are counts, since a vector may have a thousand numbers."""
    name = column.name
    yield expect(
        gxe.ExpectColumnValuesToBeInSet,
        "row",
        f"{name} of another length",
        [numbers_of(name)],
        f"{name} has {column.length} numbers",
        column=numbers_of(name),
        value_set=[column.length],
    )
    yield expect(
        gxe.ExpectColumnValuesToBeInSet,
        "row",
        f"{name} with a number that is not finite",
        [not_finite(name)],
        f"Each number of {name} is there and finite",
        column=not_finite(name),
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
    known_at = schema.known_at(table)
    if known_at is not None:
        yield expect(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            "row",
            f"before {known_at}",
            [schema.timestamp, key, known_at],
            f"No event lies before {known_at} of its {kind}",
            column_A=schema.timestamp,
            column_B=known_at,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
        )


def _implied(schema: Schema, task: Task, required: str) -> Rule:
    """The rule that `required` is 1 wherever `task` is 1; a missing label breaks it, too."""
    return expect(
        gxe.ExpectColumnPairValuesToBeEqual,
        "row",
        f"{task.name} without {required}",
        [task.name, required],
        f"{required} is 1 wherever {task.name} is 1",
        column_A=required,
        column_B=task.name,
        ignore_row_if="neither",
        row_condition=Condition(task.name) == 1,
    )
