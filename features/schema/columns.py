"""What a data set is: its columns, scenarios and tasks. Knows no tool.

A data set declares its columns once. Everything else (expectations, Parquet types, Feast views, the
encoder, embedding tables, the request type of the service) asks this declaration by role.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import SchemaError
from features.schema.targets import Task, TaskKind


class DType(StrEnum):
    """How a value is stored. Timestamps are UTC without a zone, in microseconds."""

    INT8 = "int8"
    INT64 = "int64"
    FLOAT32 = "float32"
    STRING = "string"
    TIMESTAMP = "timestamp"
    INT64_LIST = "int64_list"
    STRING_LIST = "string_list"


class Kind(StrEnum):
    """How a feature is encoded."""

    CATEGORICAL = "categorical"
    NUMERIC = "numeric"
    MULTI_VALUED = "multi_valued"  # an unordered set of categories
    SEQUENCE = "sequence"  # categories in order, newest last


class Role(StrEnum):
    """What a column is for."""

    EVENT_ID = "event_id"
    TIMESTAMP = "timestamp"  # the moment of the impression
    KNOWN_AT = "known_at"  # the moment from which a user or item exists
    USER = "user"
    ITEM = "item"
    SCENARIO = "scenario"
    CHOICE_SET = "choice_set"  # what the candidates of one choice have in common: an id, never a feature
    LABEL = "label"
    FEATURE = "feature"
    NEWEST_DAY = "newest_day"  # of a sequence: the day (since 1970, UTC) of its newest value; measured, never a feature


EVENT_TIMESTAMP = "event_timestamp"  # of a row of a view: the moment from which its values were known
FEATURE_ROLES = frozenset({Role.USER, Role.ITEM, Role.SCENARIO, Role.FEATURE})
_DTYPES: dict[Kind | None, set[DType]] = {
    Kind.CATEGORICAL: {DType.INT64, DType.STRING},
    Kind.NUMERIC: {DType.INT64, DType.FLOAT32},
    Kind.MULTI_VALUED: {DType.INT64_LIST, DType.STRING_LIST},
    Kind.SEQUENCE: {DType.INT64_LIST, DType.STRING_LIST},
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name, what it is for, how it is stored, encoded and bounded.

    `kind` is None where the column is no feature. `minimum` and `maximum` bound a number or a moment (in
    seconds since 1970, UTC), `values` closes the set of a categorical column. `domain` names the vocabulary (and
    embedding table) of a categorical, multi-valued or sequence column: columns with one domain share one table;
    default: a table of its own.
    `length` is how many values of a list are kept (the newest of a sequence, the first of a set).
    `log` asks the encoder for log(1 + v) before scaling: for counts and prices.
    """

    name: str
    role: Role
    dtype: DType
    kind: Kind | None = None
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str | int, ...] | None = None
    domain: str | None = None
    length: int | None = None
    log: bool = False
    desc: str = ""

    def __post_init__(self) -> None:
        """Refuse what no encoder could read; raises SchemaError."""
        if self.is_feature and self.dtype not in _DTYPES.get(self.kind, set()):
            raise SchemaError(f"column {self.name}: a {self.kind} feature cannot be stored as {self.dtype}")
        if not self.is_feature and self.kind is not None:
            raise SchemaError(f"column {self.name}: a {self.role} is no feature and has no kind, found {self.kind}")
        if self.is_list and not self.length:
            raise SchemaError(f"column {self.name}: a list needs a length (how many values are kept)")

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Column":
        """The column whose `dataclasses.asdict` went through JSON."""
        typed: dict[str, Any] = {"role": Role(plain["role"]), "dtype": DType(plain["dtype"])}
        typed["kind"] = Kind(plain["kind"]) if plain["kind"] else None
        typed["values"] = tuple(plain["values"]) if plain["values"] is not None else None
        return cls(**{**plain, **typed})

    @property
    def is_feature(self) -> bool:
        """Whether a model may see the column."""
        return self.role in FEATURE_ROLES

    @property
    def is_list(self) -> bool:
        """Whether a row holds several values of the column."""
        return self.dtype in (DType.INT64_LIST, DType.STRING_LIST)

    @property
    def vocabulary(self) -> str:
        """The name of the vocabulary that the column's values belong to."""
        return self.domain or self.name


@dataclass(frozen=True, kw_only=True)
class View:
    """A table of features by entity and moment: `<name>.parquet`, one wide view per set of join keys.

    `keys` are the names of the event columns that identify the entity; every row has `event_timestamp`, the
    moment from which its values were known.
    """

    name: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A data set: three tables (events, users, items), the scenarios and the tasks."""

    name: str
    scenarios: tuple[str, ...]
    tasks: tuple[Task, ...]
    events: tuple[Column, ...]
    users: tuple[Column, ...]
    items: tuple[Column, ...]

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself; raises SchemaError."""
        for role in (Role.EVENT_ID, Role.TIMESTAMP, Role.USER, Role.ITEM, Role.SCENARIO):
            _exactly_one(self.name, "events", self.events, role)
        _exactly_one(self.name, "users", self.users, Role.USER)
        _exactly_one(self.name, "items", self.items, Role.ITEM)
        self._check_names()
        self._check_tasks()
        self._check_kinds()

    def _check_names(self) -> None:
        shared = {self.user, self.item}
        names = Counter(column.name for table in self.tables.values() for column in table)
        twice = sorted(name for name, count in names.items() if count > 1 + (name in shared))
        if twice:
            raise SchemaError(f"data set {self.name}: columns {twice} are declared twice; names must be unique")
        if len(set(self.scenarios)) != len(self.scenarios) or not self.scenarios:
            raise SchemaError(f"data set {self.name}: scenarios must be distinct and at least one: {self.scenarios}")

    def _check_tasks(self) -> None:
        labels = [column.name for column in self.by_role(Role.LABEL)]
        if sorted(labels) != sorted(self.task_names):
            raise SchemaError(f"data set {self.name}: label columns {labels} and tasks {self.task_names} must agree")
        for task in self.tasks:
            if task.requires is not None and task.requires not in self.task_names:
                raise SchemaError(f"data set {self.name}: task {task.name} requires unknown task {task.requires}")
            if task.requires is not None and not {task.name, task.requires} <= set(self.rated):
                raise SchemaError(
                    f"data set {self.name}: task {task.name} requires {task.requires}, but `requires` is "
                    "between labels of 0 and 1: neither may be multi_class"
                )

    def _check_kinds(self) -> None:
        sets = self.by_role(Role.CHOICE_SET)
        if len(sets) != any(task.kind is TaskKind.CHOICE for task in self.tasks):
            raise SchemaError(
                f"data set {self.name}: a schema with a choice task, and no other, has one column of "
                f"role choice_set, found {[column.name for column in sets]}"
            )
        for column in sets:
            if column.nullable or column.dtype not in (DType.INT64, DType.STRING):
                raise SchemaError(
                    f"column {column.name}: a choice_set is an int64 or string that is never null (a row "
                    "outside every choice has a set of its own)"
                )
        labels = {column.name: column for column in self.by_role(Role.LABEL)}
        for task in self.tasks:
            task.check_label(labels[task.name].dtype, labels[task.name].values)

    @property
    def tables(self) -> dict[str, tuple[Column, ...]]:
        """The columns of each table by its name: events, users, items."""
        return {"events": self.events, "users": self.users, "items": self.items}

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, in the order of the model's outputs."""
        return tuple(task.name for task in self.tasks)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """The names of a network's logits, in their order: see Task.output_names."""
        return tuple(name for task in self.tasks for name in task.output_names)

    @property
    def rated(self) -> tuple[str, ...]:
        """The names of the tasks whose labels are 0 or 1, so that they have a rate: all but the multi-class ones."""
        return tuple(task.name for task in self.tasks if task.kind is not TaskKind.MULTI_CLASS)

    @property
    def event_id(self) -> str:
        """Name of the column that identifies an event."""
        return self.by_role(Role.EVENT_ID)[0].name

    @property
    def timestamp(self) -> str:
        """Name of the column with the moment of the impression."""
        return self.by_role(Role.TIMESTAMP)[0].name

    @cached_property
    def user(self) -> str:
        """Name of the user id, in events and users."""
        return self.by_role(Role.USER)[0].name

    @cached_property
    def item(self) -> str:
        """Name of the item id, in events and items."""
        return self.by_role(Role.ITEM)[0].name

    @cached_property
    def scenario(self) -> str:
        """Name of the scenario column of events."""
        return self.by_role(Role.SCENARIO)[0].name

    @property
    def choice_set(self) -> str | None:
        """Name of the column that says which candidates were offered together; None without a choice task."""
        return next((column.name for column in self.by_role(Role.CHOICE_SET)), None)

    def by_role(self, *roles: Role) -> tuple[Column, ...]:
        """The columns of events that have one of these roles, in declared order."""
        return tuple(column for column in self.events if column.role in roles)

    def known_at(self, table: str) -> str | None:
        """Name of the column of `users` or `items` from which a row exists, or None."""
        return next((c.name for c in self.tables[table] if c.role is Role.KNOWN_AT), None)

    def profile(self, table: str) -> tuple[Column, ...]:
        """The features of `users` or `items` beside the id."""
        return tuple(column for column in self.tables[table] if column.role is Role.FEATURE)

    @property
    def context(self) -> tuple[Column, ...]:
        """The features that come with the impression itself (hour, device, ...)."""
        return self.by_role(Role.FEATURE)

    def fingerprint(self) -> str:
        """sha256 of the declaration: two schemas are the same if and only if these agree."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()


def _exactly_one(name: str, table: str, columns: Iterable[Column], role: Role) -> None:
    found = [column.name for column in columns if column.role is role]
    if len(found) != 1:
        raise SchemaError(f"data set {name}: table {table} needs exactly one column of role {role}, found {found}")


def inputs(schema: Schema, views: Iterable[View]) -> tuple[Column, ...]:
    """Every column that a model may see, in a fixed order: those of the event first, then each view's."""
    return schema.by_role(*FEATURE_ROLES) + tuple(c for view in views for c in view.columns if c.is_feature)


def newest_day(sequence: str) -> str:
    """Name of the column with the day of the newest value of a sequence, where a view has one."""
    return f"{sequence}_newest_day"


def to_json(declaration: Schema | tuple[View, ...]) -> str:
    """A schema or its views as JSON: stable to the byte. The kind of a binary task goes without saying."""
    if not isinstance(declaration, Schema):
        return json.dumps([dataclasses.asdict(view) for view in declaration], indent=1) + "\n"
    plain = dataclasses.asdict(declaration)
    for task in plain["tasks"]:
        if task["kind"] is TaskKind.BINARY:
            del task["kind"], task["classes"]
    return json.dumps(plain, indent=1) + "\n"


def read_schema(path: Path) -> Schema:
    """The schema that `ingest` wrote beside the data."""
    plain = json.loads(path.read_text())
    tables = {table: tuple(Column.of(c) for c in plain[table]) for table in ("events", "users", "items")}
    tasks = tuple(Task.of(task) for task in plain["tasks"])
    return Schema(name=plain["name"], scenarios=tuple(plain["scenarios"]), tasks=tasks, **tables)


def read_views(path: Path) -> tuple[View, ...]:
    """The views that `aggregate` wrote beside the features."""
    return tuple(
        View(name=view["name"], keys=tuple(view["keys"]), columns=tuple(Column.of(c) for c in view["columns"]))
        for view in json.loads(path.read_text())
    )
