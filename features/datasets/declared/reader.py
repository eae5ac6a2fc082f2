"""The rows of a declared log, read by DuckDB: local files, s3:// and https:// by fsspec."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from common.errors import SourceError
from features.datasets.declared.declaration import Declaration, DeclaredColumn, Entities, Events, Table
from features.datasets.declared.expressions import exact
from features.datasets.declared.files import source
from features.datasets.log import ROW, Counts, Log
from features.engine import sql
from features.engine.connection import connect
from features.schema import Column, DType, Role, Schema

CHUNK = 131_072  # rows
POSITION = "__position"  # of a row in the files
WHERE = "`where` is not true"
SHARE = "user is not in the sample (user_share)"
_SHARE_STEPS = 1_000_000  # resolution of user_share


def open_log(declaration: Declaration, path: Path) -> Log:
    """The log of a declaration in the file `path`; raises SourceError where the files do not hold what it says."""
    schema, counts = declaration.declared_schema(), Counts()
    return Log(
        schema=schema,
        users=_entities(declaration, path, Role.USER, schema.users, counts),
        items=_entities(declaration, path, Role.ITEM, schema.items, counts),
        chunks=lambda: _events(declaration, path, schema, counts),
        counts=counts,
        path=path,
    )


def _entities(
    declaration: Declaration, path: Path, role: Role, columns: tuple[Column, ...], counts: Counts
) -> pd.DataFrame:
    """Users or items with their profile; without a table of their own the distinct ids of the events."""
    table = declaration.users if role is Role.USER else declaration.items
    name, declared = declaration.id_of(role)
    if table is None:
        with _Rows(declaration.events, declaration, path, f"{role}s out of the events") as rows:
            return rows.frame(rows.value(name, declared, columns[0]), "true").drop_duplicates(ignore_index=True)
    with _Rows(table, declaration, path, f"{role}s") as rows:
        counts.made_null.update(rows.made_null())
        key = declared.model_copy(update={"sql": _key(table, name)})
        values = [rows.value(name, key, columns[0])]
        values += [rows.value(c.name, table.columns[c.name], c) for c in columns[1:]]
        return rows.frame(", ".join(values), f"({table.where or 'true'})")


def _key(table: Entities, name: str) -> str:
    return table.key or sql.column(name)


def _events(declaration: Declaration, path: Path, schema: Schema, counts: Counts) -> Iterator[pd.DataFrame]:
    """The impressions in chunks, in the order of the files."""
    events = declaration.events
    columns = {column.name: column for column in schema.events}
    with _Rows(events, declaration, path, "events") as rows:
        user, declared = declaration.id_of(Role.USER)
        where = f"({events.where or 'true'})"
        kept = f"({where} and {_in_sample(rows.value(user, declared, columns[user], named=False), events)})"
        read, in_where, in_sample = rows.count("true", where, kept)
        counts.rows_read += read
        counts.left_out.update({WHERE: read - in_where, SHARE: in_where - in_sample})
        counts.made_null.update(rows.made_null())
        values = [rows.value(name, column, columns[name]) for name, column in events.columns.items()]
        values += [sql.column(ROW)] if events.repeated_rows == "drop" else []
        yield from rows.frames(", ".join(values), kept)


def _in_sample(user: str, events: Events) -> str:
    """SQL: whether a row's user is in the sample: MD5 of the id decides, the same in every version of DuckDB."""
    if events.user_share == 1:
        return "true"
    return f"md5_number_lower(({user})::varchar) % {_SHARE_STEPS} < {round(events.user_share * _SHARE_STEPS)}"


class _Rows:
    """The raw rows of a table, open in DuckDB; an error of DuckDB becomes a SourceError that names file and table."""

    def __init__(self, table: Table, declaration: Declaration, path: Path, called: str) -> None:
        self._table, self._where = table, f"{path}: {called}"
        self._connection = connect()
        self._connection.execute("set TimeZone = 'UTC'")
        texts = _texts(declaration)
        with self._errors():
            self._from = f"{_raw(self._connection, table, declaration, path, texts)} as __raw"
        # DuckDB turns a condition with `in` into a join, which loses the order of the files: the rows are numbered.
        # The result of a query has no order: the hash of the rows gives one.
        order = "" if table.query is None else "order by hash(__raw)"
        self._numbered = (
            f"(select *, row_number() over ({order}) as {POSITION}, hash(__raw) as {ROW} from {self._from})"
        )

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @cached_property
    def _types(self) -> dict[str, str]:
        """DuckDB's type of each expression that a column is made of."""
        expressions = list(dict.fromkeys(_expression(name, column) for name, column in self._table.columns.items()))
        return self._describe(expressions)

    def _describe(self, expressions: list[str]) -> dict[str, str]:
        if not expressions:
            return {}
        described = self._execute(f"describe select {', '.join(expressions)} from {self._numbered}").fetchall()
        return {expression: str(row[1]) for expression, row in zip(expressions, described, strict=True)}

    def value(self, name: str, declared: DeclaredColumn, column: Column, *, named: bool = True) -> str:
        """SQL: the values of a column in its declared type, exactly; what does not fit it raises an error there."""
        expression = _expression(name, declared)
        raw_type = self._types.get(expression) or self._describe([expression])[expression]
        typed = exact(_without(expression, declared), raw_type, column, self._table.time_zone)
        return f"{typed} as {sql.column(name)}" if named else typed

    def made_null(self) -> dict[str, int]:
        """How many values of each column are read as missing by its `null_if`."""
        columns = {name: column for name, column in self._table.columns.items() if column.null_if}
        conditions = [f"{_expression(name, column)} in ({_listed(column)})" for name, column in columns.items()]
        counts = zip(columns, self.count(*conditions), strict=True)
        return {name: count for name, count in counts if count}

    def count(self, *conditions: str) -> tuple[int, ...]:
        """For each condition the number of rows for which it is true, in one pass."""
        if not conditions:
            return ()
        counts = ", ".join(f"count(*) filter ({condition})" for condition in conditions)
        row = self._execute(f"select {counts} from {self._from}").fetchone()
        return tuple(map(int, row or ()))

    def frame(self, values: str, condition: str) -> pd.DataFrame:
        """The rows for which a condition is true, in one frame of Arrow columns."""
        return pd.concat(list(self.frames(values, condition)))

    def frames(self, values: str, condition: str) -> Iterator[pd.DataFrame]:
        """The same in chunks; at least one, which may be empty."""
        query = f"select {values} from {self._numbered} where {condition} order by {POSITION}"
        reader = self._execute(query).to_arrow_reader(CHUNK)
        yield reader.schema.empty_table().to_pandas(types_mapper=pd.ArrowDtype)
        with self._errors():
            for batch in reader:
                yield pa.Table.from_batches([batch]).to_pandas(types_mapper=pd.ArrowDtype)

    def _execute(self, query: str) -> duckdb.DuckDBPyConnection:
        with self._errors():
            return self._connection.execute(query)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise SourceError(f"{self._where}: {str(error).strip()}") from error


def _raw(
    connection: duckdb.DuckDBPyConnection, table: Table, declaration: Declaration, path: Path, texts: set[str]
) -> str:
    """SQL: the raw rows of a table: those of its files, or what its query makes of them."""
    if table.query is None:
        return source(connection, table.all_files(), path).table(texts)
    tables = {"raw": table, **declaration.tables()}
    used = {name: one.all_files() for name, one in tables.items() if re.search(rf"\b{name}\b", table.query, re.I)}
    named = (f"{name} as (from {source(connection, files, path).table(texts)})" for name, files in used.items())
    return f"(with {', '.join(named)} from ({table.query}))"


def _texts(declaration: Declaration) -> set[str]:
    """The raw columns that are kept as they are written: those of declared texts, 007 among them."""
    ids = {role: declaration.id_of(role)[1] for role in (Role.USER, Role.ITEM)}
    keys = {Role.USER: declaration.users, Role.ITEM: declaration.items}
    columns = [(name, column) for table in declaration.tables().values() for name, column in table.columns.items()]
    columns += [(table.key, ids[role]) for role, table in keys.items() if table is not None and table.key]
    return {column.sql or name for name, column in columns if column.stored_type() is DType.STRING}


def _expression(name: str, column: DeclaredColumn) -> str:
    """SQL: what the values of a column are made of, in brackets."""
    return f"({column.sql or sql.column(name)})"


def _without(expression: str, column: DeclaredColumn) -> str:
    """SQL: an expression, null where its value stands for a missing one."""
    return (
        f"(case when {expression} in ({_listed(column)}) then null else {expression} end)"
        if column.null_if
        else expression
    )


def _listed(column: DeclaredColumn) -> str:
    as_text = column.stored_type() is DType.STRING
    values = (sql.literal(value) if as_text or isinstance(value, str) else repr(value) for value in column.null_if)
    return ", ".join(values)
