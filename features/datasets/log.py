"""A raw log, opened: what every data set passes to ingest."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from features.schema import Schema

ROW = "_row"  # fingerprint of the whole raw row: two rows with the same fingerprint are duplicates
TRUE = "p_"  # prefix of a task: the column of its true probability


def seconds_of(day: str) -> float:
    """An ISO date or timestamp (UTC) in seconds since 1970: the unit in which bounds of a timestamp are declared."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


@dataclass(kw_only=True)
class Counts:
    """Counts of the rows of a raw log; a reader adds to them while the log is read."""

    rows_read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # events that are not read, by reason
    made_null: Counter[str] = field(default_factory=Counter)  # impossible values that are read as missing, by column
    repeats_kept: int = 0  # rows that equal another one in every column, where the reader gives no fingerprint (ROW)


@dataclass(frozen=True, kw_only=True)
class Log:
    """Users and items [one row each], and the events in chunks that fit into memory, in any order of time.

    A chunk holds the declared columns of `events` without the event id, since ingest assigns the ids; where the log
    `has_event_ids` it holds them, and they are kept. Two kinds of additional columns are possible: `p_<task>`, the true
    probability where it is known, is written to the truth only; where `_row` (ROW) is there, ingest keeps one of the
    rows that are equal in all their columns, this one included.
    """

    schema: Schema
    users: pd.DataFrame
    items: pd.DataFrame
    chunks: Callable[[], Iterator[pd.DataFrame]]
    counts: Counts = field(default_factory=Counts)
    has_event_ids: bool = False
    rows: int | None = None  # number of rows to read, where it is known in advance
    path: Path | None = None  # the file that is read, for messages

    def called(self, table: str) -> str:
        """The name of one of the tables in a message."""
        return f"{table} of {self.schema.name}" + (f" ({self.path})" if self.path else "")
