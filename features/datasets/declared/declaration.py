"""What a declared data set says in its YAML file: files, columns as names or SQL expressions, labels, scenarios.

    name: my-log
    events:
      files: events/*.parquet
      columns:
        timestamp: {role: timestamp, sql: to_timestamp(seconds)}
        user_id: user int64
        item_id: item int64
        scenario: {role: scenario, sql: "case tab when 1 then 'home' else 'search' end", values: [home, search]}
        device: categorical string nullable
        click: {role: label, sql: rating > 3}
        like: {role: label, sql: rating > 4, requires: click}
    users:
      files: users.csv
      columns:
        age: numeric int64 nullable

A column is a line of words (its role or kind, its type, `length 64`, `nullable`, `log`) or a mapping with these and
more keys.
"""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field

from common.errors import SchemaError, SourceError
from common.yaml_file import read_yaml
from features.datasets.declared.files import Files, Option
from features.datasets.log import seconds_of
from features.schema import Column, DType, Kind, Role, Schema, Task, TaskKind

EVENT_ID = "event_id"  # of every declared log: ingest gives the ids
DTYPE_OF_ROLE = {
    Role.TIMESTAMP: DType.TIMESTAMP,
    Role.KNOWN_AT: DType.TIMESTAMP,
    Role.POSITION: DType.INT64,
    Role.LABEL: DType.INT8,
    Role.WEIGHT: DType.FLOAT32,
}
DTYPE_OF_KIND = {Kind.NUMERIC: DType.FLOAT32, Kind.CATEGORICAL: DType.STRING, Kind.VECTOR: DType.FLOAT32_LIST}
ROLES = {role.value: role for role in Role if role not in (Role.EVENT_ID, Role.NEWEST_DAY)}
FLAGS = ("nullable", "log")
_LENGTH = re.compile(r"\blength (\d+)\b")


def _from_words(value: object) -> object:
    """`numeric int64 nullable` as a mapping: words are a role, a kind, a type or flags, and `length` with a number."""
    if not isinstance(value, str):
        return value
    length = _LENGTH.search(value)
    keys: dict[str, Any] = {"length": int(length[1])} if length else {}
    for word in _LENGTH.sub("", value, count=1).split():
        key = next((key for key, words in _WORDS.items() if word in words), None)
        if key is None:
            raise ValueError(f"{word!r} is no role, kind, type or flag: {_all_words()}")
        if key in keys or (key == "flag" and word in keys):
            raise ValueError(f"{word!r} is a second {key}: {value!r}")
        keys |= {word: True} if key == "flag" else {key: word}
    return keys


_WORDS = {
    "role": [name for name in ROLES if name != "feature"],
    "kind": [kind.value for kind in Kind],
    "type": [dtype.value for dtype in DType],
    "flag": FLAGS,
}


def _all_words() -> str:
    return "; ".join(f"{key}: {', '.join(words)}" for key, words in _WORDS.items()) + "; length: `length 64`"


class _Part(pydantic.BaseModel):
    """A mapping of the file: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredColumn(_Part):
    """A column: what Column of features.schema says, and where its values come from.

    Args:
        role: What the column is for; `feature` where there is none.
        kind: How a feature is encoded.
        type: How it is stored; by default that of the role, or of the kind (numeric float32,
            categorical string, vector float32_list).
        sql: DuckDB expression over the raw columns; by default the raw column of the same name.
        null_if: Values that stand for a missing one, such as -1 or "unknown".
        requires: Of a label: the task whose label must be 1 wherever this one is 1.
        task: Of a label: the kind of its task.
        classes: Of a label whose task is multi_class: the classes.
    """

    role: Literal[tuple(ROLES)] = "feature"  # type: ignore[valid-type]
    kind: Kind | None = None
    type: DType | None = None
    sql: str | None = None
    null_if: tuple[str | int | float, ...] = ()
    nullable: bool = False
    minimum: float | datetime.date | None = None
    maximum: float | datetime.date | None = None
    values: tuple[str | int, ...] | None = None
    domain: str | None = None
    length: int | None = None
    log: bool = False
    description: str = ""
    requires: str | None = None
    task: TaskKind = TaskKind.BINARY
    classes: tuple[str | int, ...] | None = None

    def stored_type(self) -> DType | None:
        """How the values are stored: as declared, or as the role or kind says; None where neither does."""
        role = ROLES[self.role]
        if role is Role.SCENARIO:
            return DType.STRING
        if role is Role.LABEL and self.task is TaskKind.REGRESSION:
            return self.type or DType.FLOAT32
        return self.type or DTYPE_OF_ROLE.get(role) or (DTYPE_OF_KIND.get(self.kind) if self.kind else None)

    def column(self, name: str) -> Column:
        """The column of the schema; raises SchemaError where no encoder could read it."""
        role = ROLES[self.role]
        is_id = role in (Role.USER, Role.ITEM, Role.SCENARIO)
        kind = Kind.CATEGORICAL if is_id else self.kind
        dtype = self.stored_type()
        if dtype is None or (role is Role.FEATURE and kind is None):
            raise SchemaError(f"column {name}: a {self.role} needs a kind and a type, such as `numeric int64`")
        return Column(
            name=name,
            role=role,
            dtype=dtype,
            kind=kind,
            nullable=self.nullable,
            minimum=_bound(self.minimum),
            maximum=_bound(self.maximum),
            values=self.values
            or ((0, 1) if role is Role.LABEL and self.task in (TaskKind.BINARY, TaskKind.CHOICE) else None),
            domain=self.domain,
            length=self.length,
            log=self.log,
            desc=self.description,
        )

    def declared_task(self, name: str) -> Task:
        """The task of a label."""
        return Task(name=name, requires=self.requires, desc=self.description, kind=self.task, classes=self.classes)


def _bound(value: float | datetime.date | None) -> float | None:
    """A number; a date or timestamp in seconds since 1970 (UTC)."""
    return seconds_of(value.isoformat()) if isinstance(value, datetime.date) else value


Columns = dict[str, Annotated[DeclaredColumn, BeforeValidator(_from_words)]]


class Table(_Part):
    """A table: its files, its columns, and which of its rows are read.

    Args:
        files: Parquet, CSV or JSON lines: paths (relative to the file of the declaration), globs, s3:// or https://.
        format: Of files whose names end otherwise.
        read: Options of DuckDB's reader of the format, such as `{delim: "::", header: false, names: [user, item]}`.
        query: DuckDB query over the files as table `raw`, and over those of `events`, `users` and `items` by these
            names: what it gives are the raw rows. For what one row does not hold: joins, lists of impressions.
        columns: The columns by name.
        where: DuckDB condition over the raw columns; rows for which it is not true are left out and counted.
        time_zone: Zone of the timestamps that have none.
    """

    files: Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
    format: Literal["parquet", "csv", "json"] | None = None
    read: dict[str, Option] = {}
    query: str | None = None
    columns: Columns
    where: str | None = None
    time_zone: str = "UTC"

    def all_files(self) -> Files:
        """Which files are read, and how."""
        return Files(patterns=tuple(self.files), format=self.format, options=self.read)


class Events(Table):
    """The impressions.

    Args:
        repeated_rows: What rows that agree in every raw column mean: each one an impression, or one that was
            written several times, of which one is kept.
        user_share: Share of the users whose events are read, drawn by a hash of the id: a sample to begin with.
    """

    repeated_rows: Literal["keep", "drop"] = "keep"
    user_share: Annotated[float, Field(gt=0, le=1)] = 1


class Entities(Table):
    """Users or items.

    Args:
        key: DuckDB expression of the id; by default the raw column with the name that the id has in the events.
    """

    key: str | None = None


class Declaration(_Part):
    """The whole file; without `users` or `items` these are the ids of the events, without a profile."""

    name: Annotated[str, Field(min_length=1)]
    events: Events
    users: Entities | None = None
    items: Entities | None = None

    @pydantic.model_validator(mode="after")
    def _check_scenario(self) -> Self:
        """The scenarios are the values of their column, in the order of the model's towers."""
        scenarios = [column for column in self.events.columns.values() if column.role == Role.SCENARIO]
        if len(scenarios) != 1 or not scenarios[0].values:
            raise ValueError("events.columns needs one column of role scenario, with its values: the scenarios")
        return self

    def declared_schema(self) -> Schema:
        """The schema of the data set; raises SchemaError where the declaration contradicts itself."""
        columns = self.events.columns
        scenario = next(column for column in columns.values() if column.role == Role.SCENARIO)
        return Schema(
            name=self.name,
            scenarios=tuple(map(str, scenario.values or ())),
            tasks=tuple(c.declared_task(name) for name, c in columns.items() if c.role == Role.LABEL),
            events=(
                Column(name=EVENT_ID, role=Role.EVENT_ID, dtype=DType.INT64),
                *(column.column(name) for name, column in columns.items()),
            ),
            users=self._entities(Role.USER, self.users),
            items=self._entities(Role.ITEM, self.items),
        )

    def tables(self) -> dict[str, Table]:
        """The tables by the names that a query gives them."""
        tables = {"events": self.events, "users": self.users, "items": self.items}
        return {name: table for name, table in tables.items() if table is not None}

    def id_of(self, role: Role) -> tuple[str, DeclaredColumn]:
        """Name and declaration of the column of the events that has this role; raises SchemaError without one."""
        columns = [(name, column) for name, column in self.events.columns.items() if column.role == role]
        if len(columns) != 1:
            raise SchemaError(f"data set {self.name}: events.columns needs exactly one column of role {role}")
        return columns[0]

    def _entities(self, role: Role, table: Entities | None) -> tuple[Column, ...]:
        name, column = self.id_of(role)
        profile = table.columns.items() if table else ()
        return (column.column(name), *(declared.column(inner) for inner, declared in profile))


def read_declaration(path: Path) -> Declaration:
    """The declaration in `path`; raises SourceError without the file, SchemaError that names each wrong key."""
    if not path.is_file():
        raise SourceError(
            f"{path.absolute()} is no file: dataset.path of a declared data set is its YAML file; "
            "`python -m features.draft FILE...` writes a first one"
        )
    try:
        return Declaration.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise SchemaError("\n".join([f"{path} is no declaration of a data set:", *_faults(error)])) from error


def _faults(error: pydantic.ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        yield f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}, found {fault['input']!r}"
