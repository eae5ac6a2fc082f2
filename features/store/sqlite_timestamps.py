"""Timestamps in Feast's SQLite online store are seconds since 1970, in whatever time zone a process runs.

Feast hands UTC without a zone to sqlite3, and its adapter takes that for local time: a store that was filled in Tokyo
is nine hours off in UTC, and an hour that daylight saving skips does not come back. sqlite3 has one adapter per type.
"""

import sqlite3
from datetime import UTC, datetime

import feast.infra.online_stores.sqlite  # noqa: F401  # it registers its own when it is imported: ours come later

COLUMN_TYPE = "timestamp"  # as Feast declares its columns


def set_utc_timestamps() -> None:
    """Let sqlite3 write and read timestamps in UTC in this process; what has no zone is in UTC."""
    sqlite3.register_adapter(datetime, _seconds)
    sqlite3.register_converter(COLUMN_TYPE, _timestamp)


def _seconds(value: datetime) -> int:
    return int((value.replace(tzinfo=UTC) if value.tzinfo is None else value).timestamp())


def _timestamp(value: bytes) -> datetime:
    return datetime.fromtimestamp(int(value), UTC)
