"""The offline store: one Parquet file per view."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from features.engine import sql
from features.engine.connection import connect
from features.schema import EVENT_TIMESTAMP, View


def view_path(features: Path, view: View) -> Path:
    """The Parquet file of a view."""
    return features / f"{view.name}.parquet"


def newest_timestamp(views: Iterable[View], features: Path) -> datetime:
    """The newest event_timestamp of all views (UTC)."""
    newest = " union all ".join(
        f"select max({EVENT_TIMESTAMP}) as newest from {sql.parquet(view_path(features, view))}" for view in views
    )
    with connect() as connection:
        row = connection.execute(f"select max(newest) from ({newest})").fetchone()
    assert row is not None
    timestamp: datetime = row[0]
    return timestamp.replace(tzinfo=UTC)
