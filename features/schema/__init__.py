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
from features.schema.names import INNER, check_name, free_name, refuse_equal
from features.schema.schema import SPLITS, Schema, inputs, inputs_from, read_schema, read_views, to_json
from features.schema.session import Session
from features.schema.targets import LARGEST_TARGET, Task, TaskKind, mean_title, output_slices, tasks_of

__all__ = [
    "EVENT_TIMESTAMP",
    "FEATURE_ROLES",
    "INNER",
    "LARGEST_TARGET",
    "SPLITS",
    "Column",
    "DType",
    "Kind",
    "Role",
    "Schema",
    "Session",
    "Task",
    "TaskKind",
    "View",
    "check_name",
    "free_name",
    "inputs",
    "inputs_from",
    "mean_title",
    "newest_day",
    "output_slices",
    "read_schema",
    "read_views",
    "refuse_equal",
    "tasks_of",
    "to_json",
]
