"""models/networks/data_spec.py: what cannot be the shape of any data is refused."""

from typing import Any

import pytest

from models.networks.data_spec import DataSpec

pytestmark = pytest.mark.unit


def spec(**changes: Any) -> DataSpec:
    """Two columns, two tables, two tasks; with other fields."""
    fields: dict[str, Any] = {
        "table_rows": (3, 3),
        "categorical_tables": (0, 1),
        "bag_tables": (),
        "bag_lengths": (),
        "numeric": 0,
        "scenarios": 1,
        "task_outputs": (1, 3),
    }
    return DataSpec(**fields | changes)


def test_tasks_and_outputs_are_counted() -> None:
    """Two tasks, one of three classes: four logits."""
    assert (spec().tasks, spec().outputs) == (2, 4)


@pytest.mark.parametrize("columns", [{"categorical_tables": (0, 2)}, {"bag_tables": (2,), "bag_lengths": (1,)}])
def test_a_table_that_is_not_declared_is_refused(columns: dict[str, Any]) -> None:
    """A column that names a table which does not exist is named at construction."""
    with pytest.raises(ValueError, match=r"tables \[2\], but table_rows declares tables 0 to 1"):
        spec(**columns)


@pytest.mark.parametrize("outputs", [(), (2, 0)])
def test_every_task_has_an_output(outputs: tuple[int, ...]) -> None:
    """No task, or a task without an output: the message states the rule."""
    with pytest.raises(ValueError, match="task_outputs must be numbers from 1, one for each task"):
        spec(task_outputs=outputs)
