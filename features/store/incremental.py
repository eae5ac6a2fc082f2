"""What an online store in use still lacks: per view the newest snapshot of each entity that is not online yet.

Beside the store lies what is known of it: watermark.json (up to when each view was brought) and one ledger per view
(entity, moment and digest of what was written last). The offline store is read from the watermark on, minus an overlap
for rows that came late; of these, what the ledger has already is left alone, and an older row never replaces a newer.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import duckdb

from common import stage
from features.schema import EVENT_TIMESTAMP, View

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """Up to when each view stands online (UTC); `begun` is the moment of a run that may not have come to its end.

    `declared` is the digest of the views' declaration: with other columns everything has to be written again.
    """

    views: dict[str, datetime] = field(default_factory=dict)
    begun: datetime | None = None
    declared: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The watermark in `path`; one that knows nothing where there is none."""
        if not path.exists():
            return cls()
        plain = json.loads(path.read_text())
        views = {name: datetime.fromisoformat(moment) for name, moment in plain["views"].items()}
        begun = plain["begun"] and datetime.fromisoformat(plain["begun"])
        return cls(views=views, begun=begun, declared=plain["declared"])

    def write(self, path: Path) -> None:
        """Into `path` by rename: whoever is killed here leaves the old one or the new one."""
        views = {name: moment.isoformat() for name, moment in self.views.items()}
        begun = self.begun and self.begun.isoformat()
        replace(path, json.dumps({"views": views, "begun": begun, "declared": self.declared}, indent=1) + "\n")

    @property
    def done(self) -> datetime:
        """The moment up to which all of the store was brought."""
        return min(self.views.values(), default=BEGINNING)


@dataclass(frozen=True, kw_only=True)
class Increment:
    """Counts of a view: rows to write (of them late: not newer than the watermark), and why the others stay out."""

    written: int
    late: int
    unchanged: int
    older: int
    later: int


def replace(path: Path, text: str) -> None:
    """Write `text` into `path` by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def select_increment(
    view: View,
    features: Path,
    ledger: Path,
    out: Path,
    *,
    watermark: datetime,
    overlap: timedelta,
    moment: datetime,
) -> Increment:
    """Write to `out` (Parquet, as the view's own) what `view` still lacks online as of `moment`; returns the counts.

    Rows from `watermark` - `overlap` to `moment` are looked at; where there is no `ledger`, nothing is online.
    """
    keys = _names(view.keys)
    columns = _names((*view.keys, EVENT_TIMESTAMP, *(c.name for c in view.columns)))
    since = max(watermark - overlap, BEGINNING) if watermark > BEGINNING else BEGINNING
    with _connect(out.parent) as connection:
        connection.execute(f"create view online as {_read_ledger(view, ledger)}")
        connection.execute(
            f"""create table found as
                select *, hash({columns}) as digest from read_parquet($path)
                where {EVENT_TIMESTAMP} between $since and $moment
                qualify row_number() over (partition by {keys} order by {EVENT_TIMESTAMP} desc) = 1""",
            {"path": _path(features, view), "since": _plain(since), "moment": _plain(moment)},
        )
        connection.execute(
            f"""create table judged as select found.*, case when found.digest = online.digest then 'unchanged'
                when online.{EVENT_TIMESTAMP} > found.{EVENT_TIMESTAMP} then 'older' else 'written' end as fate
                from found left join online using ({keys})"""
        )
        connection.execute(
            f"copy (select {columns} from judged where fate = 'written' order by {EVENT_TIMESTAMP}, {keys}) "
            f"to '{out.as_posix()}' (format parquet)"
        )
        return _count(connection, _path(features, view), watermark, moment)


def _count(connection: duckdb.DuckDBPyConnection, path: str, watermark: datetime, moment: datetime) -> Increment:
    fates = connection.execute(
        f"""select count(*) filter (fate = 'written'),
            count(*) filter (fate = 'written' and {EVENT_TIMESTAMP} <= $watermark),
            count(*) filter (fate = 'unchanged'), count(*) filter (fate = 'older') from judged""",
        {"watermark": _plain(watermark)},
    ).fetchone()
    later = connection.execute(
        f"select count(*) from read_parquet($path) where {EVENT_TIMESTAMP} > $moment",
        {"path": path, "moment": _plain(moment)},
    ).fetchone()
    assert fates is not None
    assert later is not None
    written, late, unchanged, older = fates
    return Increment(written=written, late=late, unchanged=unchanged, older=older, later=later[0])


def enter(view: View, rows: Path, ledger: Path) -> None:
    """Enter what was written online (`rows`) into the ledger, by rename."""
    keys = _names(view.keys)
    columns = _names((*view.keys, EVENT_TIMESTAMP, *(c.name for c in view.columns)))
    fresh = ledger.with_name(f".{ledger.name}.new")
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with _connect(rows.parent) as connection:
        connection.execute(f"create view online as {_read_ledger(view, ledger)}")
        connection.execute(
            f"""copy (
                select {keys}, {EVENT_TIMESTAMP}, hash({columns}) as digest from read_parquet('{rows.as_posix()}')
                union all select * from online anti join read_parquet('{rows.as_posix()}') using ({keys})
            ) to '{fresh.as_posix()}' (format parquet)"""
        )
    fresh.replace(ledger)


def _read_ledger(view: View, ledger: Path) -> str:
    """SQL: what was written last of each entity; no rows where there is no ledger."""
    if ledger.exists():
        return f"select * from read_parquet('{ledger.as_posix()}')"
    keys = ", ".join(f'null as "{key}"' for key in view.keys)
    return f"select {keys}, null::timestamp as {EVENT_TIMESTAMP}, null::ubigint as digest where false"


def _connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    spill = str(scratch / "spill")
    return duckdb.connect(config={"memory_limit": "2GB", "threads": stage.threads(), "temp_directory": spill})


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _path(features: Path, view: View) -> str:
    return (features / f"{view.name}.parquet").as_posix()


def _plain(moment: datetime) -> datetime:
    """As the files have it: UTC, without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)
