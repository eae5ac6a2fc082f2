"""Users and items of the feedback log, with their profiles.

Profiles are those of the last ingested tables: they are whole, where a view holds what a model reads, day by day, and
typed as the schema says. An id that they lack is added without a profile where the schema allows a row without one;
otherwise its events wait for tables that have it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from common.errors import SourceError
from common.files import replacing
from features.engine import sql
from features.schema import Column, Role, Schema


@dataclass(frozen=True, kw_only=True)
class Entities:
    """The users, or the items, of a schema: `table` is users or items."""

    schema: Schema
    table: str

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return self.schema.tables[self.table]

    @property
    def key(self) -> str:
        """The column of the id, as SQL has it."""
        return sql.column(self.schema.user if self.table == "users" else self.schema.item)

    @property
    def may_lack_profile(self) -> bool:
        """Whether the schema allows a row of which only the id is known."""
        return all(column.nullable for column in self.columns if column.role is Role.FEATURE)

    def write(self, connection: duckdb.DuckDBPyConnection, profiles: Path, events: Sequence[Path], out: Path) -> int:
        """Write `<table>.parquet` under `out` in order of the ids; returns its rows.

        `profiles` is the folder of the ingested tables, `events` are files of received events, whose ids are added; ids
        that were added before stay. Raises SourceError where the ingested table is not there, or of another schema.
        """
        source, path = profiles / f"{self.table}.parquet", out / f"{self.table}.parquet"
        self._check(source)
        ingested, names = sql.parquet(source), sql.columns(column.name for column in self.columns)
        parts = [f"select {names} from {ingested} where false", *self._added(path, events)]
        query = f"""
            select {names} from {ingested} union all by name
            select {", ".join(map(_one_value, self.columns))} from ({" union all by name ".join(parts)})
            where {self.key} not in (select {self.key} from {ingested}) group by {self.key}
            order by {self.key}"""
        with replacing(path) as partial:
            connection.execute(f"copy ({query}) to {sql.literal(partial)} (format parquet)")
        return int(pq.read_metadata(path).num_rows)

    def _added(self, path: Path, events: Sequence[Path]) -> Iterator[str]:
        """SQL: what was added before, and the ids of events, known from the midnight before the first of them."""
        if path.exists():
            yield f"select {sql.columns(column.name for column in self.columns)} from {sql.parquet(path)}"
        known_at = self.schema.known_at(self.table)
        timestamp = sql.column(self.schema.timestamp)
        since = f", date_trunc('day', min({timestamp}))::timestamp as {sql.column(known_at)}" if known_at else ""
        for file in events if self.may_lack_profile else ():
            yield f"select {self.key}{since} from {sql.parquet(file)} group by {self.key}"

    def _check(self, source: Path) -> None:
        if not source.exists():
            raise SourceError(
                f"{source} does not exist: the feedback log takes the profiles of {self.table} from it; run "
                "`dvc repro ingest`, or name the folder of the tables as --profiles"
            )
        absent = {column.name for column in self.columns} - set(pq.read_schema(source).names)
        if absent:
            raise SourceError(
                f"{source} has no column {sorted(absent)[0]}, which the model's schema declares: its tables are of "
                "another data set than the model that serves; name the folder of the right ones as --profiles"
            )


def _one_value(column: Column) -> str:
    """SQL: the value of a column in the rows of one added id."""
    name = sql.column(column.name)
    if column.role in (Role.USER, Role.ITEM):
        return name
    return f"{'min' if column.role is Role.KNOWN_AT else 'any_value'}({name}) as {name}"
