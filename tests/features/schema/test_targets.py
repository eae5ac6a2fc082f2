"""The kinds of tasks: what a declaration may contain, and the slices of their logits."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from common.errors import SchemaError
from features.schema import Column, DType, Role, Schema, Task, TaskKind, output_slices, read_schema, tasks_of, to_json
from tests.support import travel_log, world

pytestmark = pytest.mark.unit

SCHEMA = travel_log.schema()


def test_a_schema_with_every_kind_is_the_same_after_json(tmp_path: Path) -> None:
    """Kinds, classes of text and of numbers, choice set and fingerprint are equal."""
    (tmp_path / "schema.json").write_text(to_json(SCHEMA))
    read = read_schema(tmp_path / "schema.json")
    assert read == SCHEMA
    assert read.fingerprint() == SCHEMA.fingerprint()
    assert [task.kind for task in read.tasks] == ["multi_class", "multi_class", "choice", "choice"]


def test_a_binary_task_is_written_as_before_there_were_kinds() -> None:
    """Its kind, the default, is left out: schemas and models of older runs are still read."""
    assert '"kind": "binary"' not in to_json(world.schema())
    assert world.schema().fingerprint() == "dcca92904b901a9523bf9f7793a85f1192141258e9e27b317112d04a831f0692"


def test_roles_of_a_choice() -> None:
    """The choice set is no feature; labels of 0 and 1 have a rate."""
    assert (SCHEMA.choice_set, world.schema().choice_set) == ("trip", None)
    assert "trip" not in [column.name for column in SCHEMA.context]
    assert SCHEMA.rated == ("where", "via")


def test_every_logit_has_a_name_and_an_index() -> None:
    """One for a binary task or a choice, one per class for the others, in the order of the tasks."""
    assert SCHEMA.output_names == (
        "when=morning",
        "when=noon",
        "when=evening",
        "how=10",
        "how=20",
        "how=30",
        "how=40",
        "where",
        "via",
    )
    assert output_slices(SCHEMA.tasks) == (slice(0, 3), slice(3, 7), slice(7, 8), slice(8, 9))
    assert tasks_of(["click", SCHEMA.tasks[2]]) == (Task(name="click"), SCHEMA.tasks[2])


def replaced(index: int, **changes: Any) -> Schema:
    """The travel schema with changes to one task."""
    tasks = list(SCHEMA.tasks)
    tasks[index] = dataclasses.replace(tasks[index], **changes)
    return dataclasses.replace(SCHEMA, tasks=tuple(tasks))


def with_column(name: str, **changes: Any) -> Schema:
    """The travel schema with changes to one column of events."""
    events = tuple(dataclasses.replace(c, **changes) if c.name == name else c for c in SCHEMA.events)
    return dataclasses.replace(SCHEMA, events=events)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replaced(0, classes=None), "a multi_class task, and no other, declares classes"),
        (lambda: replaced(0, kind=TaskKind.BINARY), "a multi_class task, and no other, declares classes"),
        (lambda: replaced(0, classes=("noon", "noon")), "distinct and at least two"),
        (lambda: replaced(0, classes=(1, 2)), "stored as its classes are"),
        (lambda: replaced(1, classes=(10, "20")), "stored as its classes are"),
        (lambda: with_column("when", values=("noon",)), "differ from the classes"),
        (lambda: replaced(2, requires="when"), "between labels of 0 and 1"),
        (lambda: replaced(2, kind=TaskKind.REGRESSION), "label of a regression task, and no other, is a float32"),
        (lambda: with_column("where", dtype=DType.FLOAT32, values=None), "regression task, and no other, is a float32"),
        (lambda: replaced(0, requires="where"), "between labels of 0 and 1"),
        (lambda: with_column("trip", nullable=True), "never null"),
        (lambda: with_column("trip", dtype=DType.FLOAT32), "int64 or string"),
        (lambda: dataclasses.replace(SCHEMA, tasks=tuple(Task(name=n) for n in SCHEMA.task_names)), "found .'trip'."),
        (lambda: dataclasses.replace(SCHEMA, events=tuple(c for c in SCHEMA.events if c.name != "trip")), "found ..$"),
    ],
)
def test_a_contradiction_is_refused_with_its_rule(make: Any, message: str) -> None:
    """Classes, labels and choice sets that cannot work are errors where they are declared."""
    with pytest.raises(SchemaError, match=message):
        make()


def test_one_choice_set_is_enough_and_two_are_too_many() -> None:
    """Every choice task of a schema has the same choice set."""
    second = Column(name="other", role=Role.CHOICE_SET, dtype=DType.INT64)
    with pytest.raises(SchemaError, match="one column of role"):
        dataclasses.replace(SCHEMA, events=(*SCHEMA.events, second))
