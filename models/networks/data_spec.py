"""What a network must know about the data that it reads."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The shape of encoded rows and of what is predicted for them, in plain values.

    Raises ValueError if a column names an embedding table that does not exist, or a task has no output.

    Args:
        table_rows: the number of rows of each embedding table.
        categorical_tables: the embedding table of each categorical column, as an index into `table_rows`.
        bag_tables: the embedding table of each list column.
        bag_lengths: the largest number of ids of each list column.
        numeric: the number of numeric inputs of a row, with those of its vectors.
        scenarios: M, the number of scenarios.
        task_outputs: the logits of each of the T tasks: 1, or the number of classes of a multi-class task.
        vectors: the widths of the vectors, which are the last of the numeric inputs.
    """

    table_rows: Sequence[int]
    categorical_tables: Sequence[int]
    bag_tables: Sequence[int]
    bag_lengths: Sequence[int]
    numeric: int
    scenarios: int
    task_outputs: Sequence[int]
    vectors: Sequence[int] = ()

    def __post_init__(self) -> None:
        tables, used = len(self.table_rows), {*self.categorical_tables, *self.bag_tables}
        if wrong := sorted(table for table in used if not 0 <= table < tables):
            raise ValueError(f"columns name embedding tables {wrong}, but table_rows declares tables 0 to {tables - 1}")
        if not self.task_outputs or min(self.task_outputs) < 1:
            raise ValueError(f"task_outputs must be numbers from 1, one for each task, found {self.task_outputs}")
        if sum(self.vectors) > self.numeric:
            raise ValueError(f"vectors of widths {list(self.vectors)} do not fit into {self.numeric} numeric inputs")

    @property
    def tasks(self) -> int:
        """T, the number of tasks."""
        return len(self.task_outputs)

    @property
    def outputs(self) -> int:
        """O, the number of logits of a row."""
        return sum(self.task_outputs)
