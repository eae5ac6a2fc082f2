"""The tasks of a data set: their kinds, their labels, and the logits that a network has for each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any

from common.errors import SchemaError


class TaskKind(StrEnum):
    """The meaning of a label, which decides loss and metric of its task."""

    BINARY = "binary"  # 0 or 1: binary cross entropy, AUC
    MULTI_CLASS = "multi_class"  # one of the declared classes: softmax cross entropy, accuracy
    CHOICE = "choice"  # 1 for the chosen candidate of a set, 0 for the others: binary cross entropy, hit rate
    REGRESSION = "regression"  # a number, such as a watch time: squared error, XAUC


LARGEST_TARGET = 1e9  # of a regression task: sums of squares stay far from the largest float32, sums are exact
_TYPES = {"string": str, "int8": int, "int64": int}  # of classes, by how their label is stored


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task; its name is that of its label column (0, 1 or null where unobserved; one of `classes` if multi-class).

    The label of a regression task is a float32.

    `requires` names the task whose label must be 1 wherever this one is 1 (order only after click). The rows of a
    choice task are candidates; those with the same value in the column of role choice_set, and a label, are one set.
    """

    name: str
    requires: str | None = None
    desc: str = ""
    kind: TaskKind = TaskKind.BINARY
    classes: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        """Raises SchemaError where the classes contradict the kind."""
        if (self.kind is TaskKind.MULTI_CLASS) != (self.classes is not None):
            raise SchemaError(
                f"task {self.name}: a multi_class task, and no other, declares classes; found kind {self.kind} and "
                f"classes {self.classes}"
            )
        if self.classes is not None and (len(set(self.classes)) != len(self.classes) or len(self.classes) < 2):
            raise SchemaError(f"task {self.name}: classes must be distinct and at least two, found {self.classes}")

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Task":
        """The task with these plain values; without a kind it is binary."""
        classes = plain.get("classes")
        typed = {"kind": TaskKind(plain.get("kind", "binary")), "classes": None if classes is None else tuple(classes)}
        return cls(**{**plain, **typed})

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for each of the logits: the task's own, or `task=class` for every class."""
        return (self.name,) if self.classes is None else tuple(f"{self.name}={value}" for value in self.classes)

    @property
    def outputs(self) -> int:
        """How many logits the task has: one, or one for every class."""
        return len(self.output_names)

    def check_label(self, dtype: str, values: tuple[str | int, ...] | None) -> None:
        """Raises SchemaError where the label column cannot hold the classes, in their type, or the numbers."""
        is_number = self.kind is TaskKind.REGRESSION
        if is_number != (dtype == "float32") or (is_number and values is not None):
            raise SchemaError(
                f"column {self.name}: the label of a regression task, and no other, is a float32 without a closed set "
                f"of values; found {dtype}, values {values} and kind {self.kind}"
            )
        if self.classes is None:
            return
        if {type(value) for value in self.classes} != {_TYPES.get(dtype)}:
            raise SchemaError(
                f"column {self.name}: the label of a multi_class task is stored as its classes are, as string, int8 or "
                f"int64; found {dtype} and classes {self.classes}"
            )
        if values is not None and set(values) != set(self.classes):
            raise SchemaError(
                f"column {self.name}: values {values} differ from the classes {self.classes}; leave the values out"
            )


def tasks_of(tasks: Iterable[str | Task]) -> tuple[Task, ...]:
    """The tasks; a name alone is a binary task."""
    return tuple(Task(name=task) if isinstance(task, str) else task for task in tasks)


def output_slices(tasks: Iterable[Task]) -> tuple[slice, ...]:
    """The slice of each task's logits among those of all tasks."""
    ends = accumulate((task.outputs for task in tasks), initial=0)
    return tuple(slice(start, end) for start, end in pairwise(ends))


def mean_title(tasks: Iterable[Task]) -> str:
    """The title of the mean over the cells."""
    return "mean AUC" if all(task.kind is TaskKind.BINARY for task in tasks) else "mean of the cells"
