"""A raw log, opened: what every data set hands to ingest."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from features.schema import Schema

ROW = "_row"  # fingerprint of the whole raw row: two rows with one fingerprint repeat each other
TRUE = "p_"  # and the name of a task: its true probability


def moment(day: str) -> float:
    """An ISO date or moment (UTC) in seconds since 1970: what bounds of a timestamp are declared in."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


@dataclass(kw_only=True)
class Counts:
    """What became of the rows of a raw log; a reader adds to it while it is read."""

    rows_read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # events by the reason for which they are not read
    made_null: Counter[str] = field(default_factory=Counter)  # impossible values of a column that are read as missing


@dataclass(frozen=True, kw_only=True)
class Log:
    """Users and items [one row each], and the events in chunks that fit into memory, in any order of time.

    A chunk holds the declared columns of `events` less the event id (ingest gives the ids). Two kinds of columns
    may come on top: `p_<task>`, the true probability where it is known, goes to the truth and nowhere else;
    `_row` (ROW) asks ingest to keep one of the rows that are equal in all their columns, this one included.
    """

    schema: Schema
    users: pd.DataFrame
    items: pd.DataFrame
    chunks: Callable[[], Iterator[pd.DataFrame]]
    counts: Counts = field(default_factory=Counts)
    rows: int | None = None  # how many rows there are to read, where that is known beforehand
    path: Path | None = None  # the file that is read, for the messages

    def called(self, table: str) -> str:
        """How a message names one of the tables."""
        return f"{table} of {self.schema.name}" + (f" ({self.path})" if self.path else "")
