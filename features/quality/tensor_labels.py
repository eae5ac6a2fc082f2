"""The measurements of labels and weights among the tensors; see features/quality/tensors.py."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from features.encoding.tensors import Tensors
from features.quality.gate import Measurements
from features.quality.rule import expect_zero
from features.schema import Schema, Task, TaskKind

BLOCK_ROWS = 500_000


def label_counts(schema: Schema, tensors: Tensors) -> Measurements:
    """How many labels of each task are neither one of its classes nor unobserved (NaN)."""
    strange = sum(
        np.array([_strange(task, block[:, index]) for index, task in enumerate(schema.tasks)])
        for block in blocks(tensors.labels)
    )
    rule = expect_zero(
        "label outside its classes",
        ["label outside its classes"],
        "Every label is 0 or 1, the index of a class, or a finite number, or NaN where it was not observed",
    )
    counts = pa.array(np.atleast_1d(strange), pa.int64())
    table = pa.table({"task": list(schema.task_names), "label outside its classes": counts})
    return Measurements(key="task", rows=table, rules=(rule,))


def _strange(task: Task, labels: np.ndarray) -> int:
    if task.kind is TaskKind.REGRESSION:
        return int(np.count_nonzero(np.isinf(labels)))
    classes = np.arange(2 if task.classes is None else len(task.classes))
    return int(np.count_nonzero(~np.isnan(labels) & ~np.isin(labels, classes)))


def weight_counts(tensors: Tensors) -> Iterator[Measurements]:
    """How many weights are negative or not finite; nothing where rows have no weight."""
    if tensors.weight is None:
        return
    wrong = sum(int(np.count_nonzero(~(np.isfinite(block) & (block >= 0)))) for block in blocks(tensors.weight))
    rule = expect_zero("wrong weights", ["wrong weights"], "Every weight is finite and at least 0")
    yield Measurements(key="array", rows=pa.table({"array": ["weight"], "wrong weights": [wrong]}), rules=(rule,))


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in parts of BLOCK_ROWS rows."""
    for start in range(0, len(array), BLOCK_ROWS):
        yield array[start : start + BLOCK_ROWS]
