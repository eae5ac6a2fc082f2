"""The declaration of a data set: its columns, scenarios and tasks. This package knows no tool."""

from features.schema.columns import (
    EVENT_TIMESTAMP,
    FEATURE_ROLES,
    Column,
    DType,
    Kind,
    Role,
    View,
    newest_day,
)
from features.schema.schema import SPLITS, Schema, inputs, inputs_from, read_schema, read_views, to_json
from features.schema.targets import Task, TaskKind, mean_title, output_slices, tasks_of

__all__ = [
    "EVENT_TIMESTAMP",
    "FEATURE_ROLES",
    "SPLITS",
    "Column",
    "DType",
    "Kind",
    "Role",
    "Schema",
    "Task",
    "TaskKind",
    "View",
    "inputs",
    "inputs_from",
    "mean_title",
    "newest_day",
    "output_slices",
    "read_schema",
    "read_views",
    "tasks_of",
    "to_json",
]
