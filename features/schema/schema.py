"""The schema of a data set: its columns, scenarios and tasks. Knows no tool.

A data set declares its columns once. Everything else (expectations, Parquet types, Feast views, the encoder, embedding
sizes, the request type of the service) is derived from this declaration, by the role of each column.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import SchemaError
from features.schema.columns import FEATURE_ROLES, Column, DType, Role, View
from features.schema.names import check_name, check_text, refuse_derived, refuse_equal
from features.schema.session import Session
from features.schema.targets import LARGEST_TARGET, Task, TaskKind
from features.schema.values import check_types

SPLITS = ("train", "valid", "test")  # of the impressions; in order of time where they are split by time


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
        """Raises SchemaError where the declaration contradicts itself."""
        for role in (Role.EVENT_ID, Role.TIMESTAMP, Role.USER, Role.ITEM, Role.SCENARIO):
            _exactly_one(self.name, "events", self.events, role)
        _exactly_one(self.name, "users", self.users, Role.USER)
        _exactly_one(self.name, "items", self.items, Role.ITEM)
        self._check_names()
        self._check_tasks()
        self._check_weight()
        self._check_kinds()
        check_types(f"data set {self.name}", self.tables)

    def _check_names(self) -> None:
        columns = {table: [column.name for column in declared] for table, declared in self.tables.items()}
        for name in dict.fromkeys(name for names in columns.values() for name in names):
            check_name("column", name)
        for scenario in self.scenarios:
            check_text("scenario", scenario)
        for table, role, key in (("users", Role.USER, self.user), ("items", Role.ITEM, self.item)):
            own = next(column.name for column in self.tables[table] if column.role is role)
            if own != key:
                raise SchemaError(
                    f"data set {self.name}: the {role} id is called {key!r} in events and {own!r} in {table}; "
                    "declare one name, and rename the other in `read`"
                )
            columns[table].remove(key)
        refuse_equal(f"data set {self.name}", (name for names in columns.values() for name in names))
        refuse_derived(f"data set {self.name}", self.tables, (self.user, self.item, self.scenario), self.output_names)
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
                    "between labels of 0 and 1: neither may be multi_class or regression"
                )
        outputs = Counter(f"{scenario}/{name}" for scenario in self.scenarios for name in self.output_names)
        twice = sorted(name for name, count in outputs.items() if count > 1)
        if twice or len(self.cells) < len(self.scenarios) * len(self.tasks):
            raise SchemaError(
                f"data set {self.name}: scenarios and tasks have results by scenario/task and scenario/task=class, "
                f"which must differ, found {(twice or list(self.cells))[:3]} twice; rename a scenario or a task"
            )

    def _check_weight(self) -> None:
        weights = [f"{table}.{column.name}" for table in self.tables for column in self._weights(table)]
        if len(weights) > 1 or any(self._weights(table) for table in ("users", "items")):
            raise SchemaError(
                f"data set {self.name}: a weight is of an impression, and an impression has at most one: expected at "
                f"most one column of role weight, in events, found {weights}"
            )

    def _weights(self, table: str) -> tuple[Column, ...]:
        return tuple(column for column in self.tables[table] if column.role is Role.WEIGHT)

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
                    "outside every choice is a set by itself)"
                )
        columns = [(table, column) for table, declared in self.tables.items() for column in declared]
        positions = [f"{table}.{column.name}" for table, column in columns if column.role is Role.POSITION]
        if len(positions) > 1 or any(not name.startswith("events.") for name in positions):
            raise SchemaError(
                f"data set {self.name}: expected at most one column of role position, in events, found {positions}"
            )
        labels = {column.name: column for column in self.by_role(Role.LABEL)}
        for task in self.tasks:
            label = labels[task.name]
            task.check_label(label.dtype, label.values)
            bounds = [bound for bound in (label.minimum, label.maximum) if bound is not None]
            if task.kind is TaskKind.REGRESSION and any(abs(bound) > LARGEST_TARGET for bound in bounds):
                raise SchemaError(
                    f"column {label.name}: a regression target lies within {-LARGEST_TARGET:g} and {LARGEST_TARGET:g}, "
                    f"found bounds {bounds}; declare it in a larger unit"
                )

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
        """The names of the tasks whose labels are 0 or 1, so that they have a rate."""
        return tuple(task.name for task in self.tasks if task.kind in (TaskKind.BINARY, TaskKind.CHOICE))

    @property
    def regressed(self) -> tuple[str, ...]:
        """The names of the tasks whose labels are any numbers."""
        return tuple(task.name for task in self.tasks if task.kind is TaskKind.REGRESSION)

    @property
    def averaged(self) -> tuple[str, ...]:
        """The names of the tasks whose labels have a mean, a rate or not: all but the multi-class ones."""
        return tuple(task.name for task in self.tasks if task.kind is not TaskKind.MULTI_CLASS)

    @cached_property
    def cells(self) -> dict[str, tuple[str, Task]]:
        """Scenario and task of each cell by its name, "scenario/task"; both may hold a "/"."""
        return {f"{scenario}/{task.name}": (scenario, task) for scenario in self.scenarios for task in self.tasks}

    @property
    def event_id(self) -> str:
        """Name of the column that identifies an event."""
        return self.by_role(Role.EVENT_ID)[0].name

    @property
    def timestamp(self) -> str:
        """Name of the column with the timestamp of the impression."""
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

    @property
    def weight(self) -> str | None:
        """Name of the column with the weight of an impression; None where each one counts as 1."""
        return next((column.name for column in self._weights("events")), None)

    @property
    def position(self) -> str | None:
        """Name of the column with the position at which the impression was shown; None where the log does not say."""
        return next((column.name for column in self.by_role(Role.POSITION)), None)

    def by_role(self, *roles: Role) -> tuple[Column, ...]:
        """The columns of events that have one of these roles, in declared order."""
        return tuple(column for column in self.events if column.role in roles)

    def known_at(self, table: str) -> str | None:
        """Name of the column of `users` or `items` from which a row exists, or None."""
        return next((c.name for c in self.tables[table] if c.role is Role.KNOWN_AT), None)

    def profile(self, table: str) -> tuple[Column, ...]:
        """The features of `users` or `items` without the id."""
        return tuple(column for column in self.tables[table] if column.role is Role.FEATURE)

    @property
    def context(self) -> tuple[Column, ...]:
        """The features that come with the impression itself (hour, device, ...)."""
        return self.by_role(Role.FEATURE)

    def fingerprint(self) -> str:
        """sha256 of the declaration: two schemas are the same if and only if these agree."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()


def _exactly_one(name: str, table: str, columns: Iterable[Column], role: Role) -> None:
    names = [column.name for column in columns if column.role is role]
    if len(names) != 1:
        raise SchemaError(f"data set {name}: table {table} needs exactly one column of role {role}, found {names}")


def inputs(schema: Schema, views: Iterable[View]) -> tuple[Column, ...]:
    """Every column that a model may see, in a fixed order: those of the event first, then each view's."""
    return schema.by_role(*FEATURE_ROLES) + tuple(c for view in views for c in view.columns if c.is_feature)


def inputs_from(schema: Schema, views: Iterable[View], sources: Collection[str]) -> tuple[Column, ...]:
    """The inputs that come from one of `sources`: impression, profile, statistics."""
    impression = {column.name for column in inputs(schema, ())}
    profile = {column.name for table in ("users", "items") for column in schema.profile(table)}
    source_of = dict.fromkeys(impression, "impression") | dict.fromkeys(profile, "profile")
    return tuple(c for c in inputs(schema, views) if source_of.get(c.name, "statistics") in sources)


def to_json(declaration: Schema | tuple[View, ...]) -> str:
    """A schema or its views as JSON, always the same bytes.

    The kind of a binary task, the default, is left out, and so is the session of a view that has none.
    """
    if not isinstance(declaration, Schema):
        views = [dataclasses.asdict(view) for view in declaration]
        for view in views:
            if view["session"] is None:
                del view["session"]
        return json.dumps(views, indent=1) + "\n"
    plain = dataclasses.asdict(declaration)
    for task in plain["tasks"]:
        if task["kind"] is TaskKind.BINARY:
            del task["kind"], task["classes"]
    return json.dumps(plain, indent=1) + "\n"


def read_schema(path: Path) -> Schema:
    """The schema in the JSON file that `ingest` wrote."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    tables = {table: tuple(Column.of(c) for c in plain[table]) for table in ("events", "users", "items")}
    tasks = tuple(Task.of(task) for task in plain["tasks"])
    return Schema(name=plain["name"], scenarios=tuple(plain["scenarios"]), tasks=tasks, **tables)


def read_views(path: Path) -> tuple[View, ...]:
    """The views in the JSON file that `aggregate` wrote."""
    return tuple(_view_of(view) for view in json.loads(path.read_text(encoding="utf-8")))


def _view_of(plain: Mapping[str, Any]) -> View:
    return View(
        name=plain["name"],
        keys=tuple(plain["keys"]),
        columns=tuple(Column.of(column) for column in plain["columns"]),
        session=Session.of(plain["session"]) if "session" in plain else None,
    )
