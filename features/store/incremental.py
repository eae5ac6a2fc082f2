"""What an online store in use still lacks: per view the newest row of each entity that is not online yet.

Two files next to the store record its state: watermark.json says up to when each view is materialized, and one ledger
per view holds entity, timestamp and digest of the row written last. The offline store is read from the watermark on,
minus an overlap for rows that came late. Rows that the ledger already holds are left out, and an older row never
replaces a newer one.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import duckdb

from common.files import replacing, write_text
from features.engine import sql
from features.engine.connection import connect
from features.schema import EVENT_TIMESTAMP, View, free_name
from features.store.offline_store import view_path

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """Up to when each view is materialized (UTC); `begun` is the target of a run that may not have completed.

    `declared` is the digest of the views' declaration: with other columns everything has to be written again.
    """

    views: dict[str, datetime] = field(default_factory=dict)
    begun: datetime | None = None
    declared: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The watermark in `path`; an empty one where the file does not exist."""
        if not path.exists():
            return cls()
        plain = json.loads(path.read_text(encoding="utf-8"))
        views = {name: datetime.fromisoformat(timestamp) for name, timestamp in plain["views"].items()}
        begun = plain["begun"] and datetime.fromisoformat(plain["begun"])
        return cls(views=views, begun=begun, declared=plain["declared"])

    def write(self, path: Path) -> None:
        """Replace the file `path` atomically."""
        views = {name: timestamp.isoformat() for name, timestamp in self.views.items()}
        begun = self.begun and self.begun.isoformat()
        write_text(path, json.dumps({"views": views, "begun": begun, "declared": self.declared}, indent=1) + "\n")

    @property
    def as_of(self) -> datetime:
        """The timestamp up to which every view is materialized."""
        return min(self.views.values(), default=BEGINNING)


@dataclass(frozen=True, kw_only=True)
class Increment:
    """Row counts of a view: to write (`late`: those at or before the watermark), and left out, by reason."""

    written: int
    late: int
    unchanged: int
    older: int
    later: int


def select_increment(
    view: View,
    features: Path,
    ledger: Path,
    out: Path,
    *,
    watermark: datetime,
    overlap: timedelta,
    as_of: datetime,
) -> Increment:
    """Write to `out` (Parquet, with the view's columns) what the online store lacks of `view` as of `as_of`.

    Args:
        view: The view that is compared.
        features: Folder of the views' Parquet files.
        ledger: Ledger of the view; where it does not exist, the online store holds nothing of it.
        out: File that is written.
        watermark: Timestamp up to which the view is materialized.
        overlap: How far before the watermark rows are read again.
        as_of: Timestamp up to which rows are read.
    """
    keys = sql.columns(view.keys)
    columns = _row_columns(view)
    since = max(watermark - overlap, BEGINNING) if watermark > BEGINNING else BEGINNING
    source = sql.parquet(view_path(features, view))
    with connect(out.parent / "spill") as connection:
        connection.execute(f"create view __online as {_read_ledger(view, ledger)}")
        connection.execute(
            f"""create table __candidates as
                select *, hash({columns}) as __digest from {source}
                where {EVENT_TIMESTAMP} between $since and $as_of
                qualify row_number() over (partition by {keys} order by {EVENT_TIMESTAMP} desc) = 1""",
            {"since": _naive(since), "as_of": _naive(as_of)},
        )
        connection.execute(
            f"""create table __classified as select __candidates.*,
                case when __candidates.__digest = __online.__digest then 'unchanged'
                when __online.{EVENT_TIMESTAMP} > __candidates.{EVENT_TIMESTAMP} then 'older'
                else 'written' end as __status
                from __candidates left join __online using ({keys})"""
        )
        connection.execute(
            f"copy (select {columns} from __classified where __status = 'written' order by {EVENT_TIMESTAMP}, {keys}) "
            f"to {sql.literal(out)} (format parquet)"
        )
        return _count(connection, source, watermark, as_of)


def _count(connection: duckdb.DuckDBPyConnection, source: str, watermark: datetime, as_of: datetime) -> Increment:
    by_status = connection.execute(
        f"""select count(*) filter (__status = 'written'),
            count(*) filter (__status = 'written' and {EVENT_TIMESTAMP} <= $watermark),
            count(*) filter (__status = 'unchanged'), count(*) filter (__status = 'older') from __classified""",
        {"watermark": _naive(watermark)},
    ).fetchone()
    later = connection.execute(
        f"select count(*) from {source} where {EVENT_TIMESTAMP} > $as_of", {"as_of": _naive(as_of)}
    ).fetchone()
    assert by_status is not None
    assert later is not None
    written, late, unchanged, older = by_status
    return Increment(written=written, late=late, unchanged=unchanged, older=older, later=later[0])


def record_written(view: View, rows: Path, ledger: Path) -> None:
    """Add the rows that were written online (the Parquet file `rows`) to the ledger, which is replaced atomically."""
    keys, written = sql.columns(view.keys), sql.parquet(rows)
    with connect(rows.parent / "spill") as connection, replacing(ledger) as partial:
        connection.execute(f"create view __online as {_read_ledger(view, ledger)}")
        connection.execute(
            f"""copy (
                select {keys}, {EVENT_TIMESTAMP}, hash({_row_columns(view)}) as {_digest(view)} from {written}
                union all select * from __online anti join {written} using ({keys})
            ) to {sql.literal(partial)} (format parquet)"""
        )


def _read_ledger(view: View, ledger: Path) -> str:
    """SQL: the row written last of each entity; no rows where there is no ledger."""
    if ledger.exists():
        return f"select * rename ({_digest(view)} as __digest) from {sql.parquet(ledger)}"
    keys = ", ".join(f"null as {sql.column(key)}" for key in view.keys)
    return f"select {keys}, null::timestamp as {EVENT_TIMESTAMP}, null::ubigint as __digest where false"


def _digest(view: View) -> str:
    """SQL: the column of a ledger with the digest of a row."""
    return sql.column(free_name("digest", view.keys))


def _row_columns(view: View) -> str:
    """SQL: the columns of a row of the view."""
    return sql.columns((*view.keys, EVENT_TIMESTAMP, *(column.name for column in view.columns)))


def _naive(timestamp: datetime) -> datetime:
    """UTC without a zone, as in the Parquet files."""
    return timestamp.astimezone(UTC).replace(tzinfo=None)
