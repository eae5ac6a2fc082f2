"""Direct changes to the SQLite file of an online store."""

import contextlib
import sqlite3
from pathlib import Path

from feast.protos.feast.types.Value_pb2 import Value


def execute(online: Path, text: str, *values: object) -> int:
    """Execute a statement on the SQLite file; returns the number of changed rows."""
    with contextlib.closing(sqlite3.connect(online)) as connection, connection:
        return connection.execute(text, values).rowcount


def write_value(online: Path, view: str, feature: str, value: Value) -> int:
    """Write one value for a feature of every entity of a view; returns the number of changed rows."""
    stored = value.SerializeToString()
    return execute(online, f"update hinet_{view} set value = ? where feature_name = ?", stored, feature)
