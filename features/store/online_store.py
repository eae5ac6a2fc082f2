"""An online store in use: its lock, its recorded state, and the writes that others may read meanwhile."""

import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import redis
from feast import FeatureStore

from common import params
from common.errors import ParameterError, StoreError
from common.exit_status import LOCKED
from common.files import exclusive_lock, sha256_of
from common.settings import read_settings, variable
from features.engine.engines import open_cluster
from features.engine.protocol import Engine
from features.engine.session_view import stored_views
from features.schema import Schema, View, read_schema, read_views
from features.store.definitions import open_store
from features.store.ibis_backend import set_ibis_backend
from features.store.incremental import BEGINNING, Increment, Watermark, record_written, select_increment
from features.store.item_snapshot import item_snapshot_path
from features.store.redis_errors import OUT_OF_REACH, expected_kind
from features.store.registry import RegistryUnavailableError, register_in_database
from features.store.snapshot_writer import write_snapshot
from features.store.spread_writes import Destination, write_everywhere

WATERMARK = "watermark.json"
CHECKSUMS = "checksums.json"  # of the feature files that the last refresh read


class StoreUnavailableError(StoreError):
    """The online store is locked or unreachable now; the same command may succeed later."""

    exit_status = LOCKED

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}. Run the same command later.")


@contextmanager
def exclusive_access(online: Path) -> Iterator[None]:
    """Hold the lock of the online store `online`: one refresh at a time, and a killed one releases it.

    Raises StoreUnavailableError where another process holds the lock or the SQLite file, or where Redis or the database
    of the registry is unreachable; ParameterError where HINET_REDIS names a cluster as a single Redis, or the reverse.
    """
    try:
        with exclusive_lock(state_dir(online) / "lock"), expected_kind():
            yield
    except BlockingIOError:
        raise StoreUnavailableError(f"{online} is locked: another refresh is at work") from None
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        raise StoreUnavailableError(f"{online} is locked: another process writes to it") from error
    except OUT_OF_REACH as error:
        raise StoreUnavailableError(f"the Redis of {variable('redis')}: {error}") from error
    except RegistryUnavailableError as error:
        raise StoreUnavailableError(str(error)) from error


def state_dir(online: Path) -> Path:
    """The folder next to the online store that records what was written to it."""
    return online.with_name(f"{online.name}.written")


def note_other_writer(online: Path, view: str, newest: datetime) -> None:
    """Record that another program is about to write rows of `view` to the store `online`, the newest of `newest`.

    What the refresh wrote last of the view is forgotten, so that the next one writes the rows of its overlap again: no
    row counts as written that was replaced since. A refresh up to before `newest` is refused, for it would go back.
    """
    folder = state_dir(online)
    (folder / f"{view}.parquet").unlink(missing_ok=True)
    watermark = Watermark.read(folder / WATERMARK)
    if watermark.views:  # else the next refresh writes the whole store
        whole_second = newest if newest.microsecond == 0 else newest.replace(microsecond=0) + timedelta(seconds=1)
        begun = max(watermark.begun or whole_second, whole_second)
        dataclasses.replace(watermark, begun=begun).write(folder / WATERMARK)


class OnlineStore:
    """An online store and its recorded state: the SQLite file `online`, or the Redis that the environment names."""

    def __init__(
        self, *, schema: Path, features: Path, online: Path, overlap: timedelta, engine: params.Engine | None = None
    ) -> None:
        self.schema: Schema = read_schema(schema)
        self.views: tuple[View, ...] = read_views(features / "views.json")
        self.stored = stored_views(self.schema, self.views)
        self.features, self.online, self.overlap, self.state_dir = features, online, overlap, state_dir(online)
        self.declared = sha256_of(features / "views.json")
        self.watermark = Watermark.read(self.state_dir / WATERMARK)
        settings = read_settings()
        self.redis, self.registry = settings.redis, settings.feast_registry
        self._engine = engine if self.redis is not None else None  # a SQLite file has one writer

    @property
    def snapshot(self) -> Path:
        """The item snapshot of this store."""
        return item_snapshot_path(self.online)

    @property
    def needs_rewrite(self) -> bool:
        """Whether the content is unknown: the store is absent or new, or the views have other columns."""
        exists = self.redis is not None or self.online.exists()
        return not exists or not self.watermark.views or self.watermark.declared != self.declared

    def check_target(self, as_of: datetime) -> None:
        """Raises ParameterError where an incomplete run, or another program, wrote later rows than `as_of`."""
        begun = self.watermark.begun
        if begun is not None and begun > as_of:
            raise ParameterError(
                f"--as-of {as_of:%Y-%m-%dT%H:%M}: a run up to {begun:%Y-%m-%dT%H:%M} was begun and did not end, or "
                f"Feast materialized rows of then, so {self.online} may hold values of that time. "
                f"Run again with --as-of {begun:%Y-%m-%dT%H:%M:%S} or later."
            )

    def write(self, as_of: datetime, *, rewrite: bool) -> dict[str, Increment]:
        """Write the increment of each view through Feast, and record it; `rewrite`: write every entity."""
        self._begin(as_of, rewrite=rewrite)
        if self.redis is None:
            _enable_concurrent_reads(self.online)
        with TemporaryDirectory(dir=self.state_dir) as folder, self._open_engine(Path(folder)) as engine:
            scratch = Path(folder)
            set_ibis_backend(scratch)
            counts = {view.name: self._select(view, scratch, as_of) for view in self.stored}
            store = self.open(scratch, scratch)
            for view in self.stored:
                started = time.perf_counter()
                if counts[view.name].written:
                    with self._name_full_store(view, counts[view.name].written):
                        self._write_rows(engine, store, view, scratch, as_of)
                    record_written(view, scratch / f"{view.name}.parquet", self._ledger(view))
                print(_summary(view, counts[view.name], time.perf_counter() - started), flush=True)
        return counts

    def _open_engine(self, scratch: Path) -> AbstractContextManager[Engine | None]:
        """The executors that write; None: this process does."""
        return nullcontext() if self._engine is None else open_cluster(self._engine, scratch / "engine")

    def _write_rows(
        self, engine: Engine | None, store: FeatureStore, view: View, scratch: Path, as_of: datetime
    ) -> None:
        """Write the selected rows of a view: executors, or Feast in this process."""
        if engine is None:
            store.materialize(BEGINNING, as_of, feature_views=[view.name])
            return
        assert self.redis is not None  # else there is no engine
        destination = Destination(self.schema, self.stored, view.name, self.redis)
        write_everywhere(engine, destination, scratch / f"{view.name}.parquet")

    def write_snapshot(self, as_of: datetime) -> None:
        """Replace the item snapshot by the newest rows up to `as_of`."""
        items = write_snapshot(self.schema, self.views, features=self.features, as_of=as_of, path=self.snapshot)
        print(f"{self.snapshot}: {items:,} items", flush=True)

    def complete(self, as_of: datetime) -> None:
        """Record that every view is materialized up to `as_of`, and in the registry that the environment names."""
        if self.registry is not None:
            register_in_database(
                self.registry,
                self.schema,
                self.views,
                features=self.features,
                online=self.online,
                redis=self.redis,
                as_of=as_of,
            )
        views = dict.fromkeys((view.name for view in self.views), as_of)
        Watermark(views=views, declared=self.declared).write(self.state_dir / WATERMARK)

    def open(self, features: Path, scratch: Path) -> FeatureStore:
        """The store as Feast opens it, with the offline store under `features` and the registry under `scratch`."""
        registry = scratch / "registry.db"
        return open_store(
            self.schema, self.views, features=features, online=self.online, registry=registry, redis=self.redis
        )

    def _begin(self, as_of: datetime, *, rewrite: bool) -> None:
        """Record the target before anything is written; `rewrite`: forget what was written before."""
        if rewrite:
            self.watermark = Watermark()
        self.watermark = dataclasses.replace(self.watermark, begun=as_of)
        self.watermark.write(self.state_dir / WATERMARK)
        if rewrite:
            for ledger in self.state_dir.glob("*.parquet"):
                ledger.unlink()

    def _select(self, view: View, scratch: Path, as_of: datetime) -> Increment:
        return select_increment(
            view,
            self.features,
            self._ledger(view),
            scratch / f"{view.name}.parquet",
            watermark=self.watermark.views.get(view.name, BEGINNING),
            overlap=self.overlap,
            as_of=as_of,
        )

    def _ledger(self, view: View) -> Path:
        return self.state_dir / f"{view.name}.parquet"

    @contextmanager
    def _name_full_store(self, view: View, rows: int) -> Iterator[None]:
        """Raises StoreError where the Redis or the disk has no space for the `rows` of `view`."""
        try:
            yield
        except redis.OutOfMemoryError as error:
            address = str(self.redis).split(",")[0]  # without its password
            remedy = (
                "memory (`redis-cli config set maxmemory 4gb`, and in its configuration) or remove what else it holds"
            )
            raise self._full(
                f"the Redis of {variable('redis')} ({address})", view, rows, error, remedy=remedy
            ) from error
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            remedy = "space: `df -h` shows what is left"
            raise self._full(f"the disk of {self.online}", view, rows, error, remedy=remedy) from error

    def _full(self, what: str, view: View, rows: int, error: Exception, *, remedy: str) -> StoreError:
        return StoreError(
            f"{what} is full: expected space for {rows:,} rows of the view {view.name}, found {error}. Watermark and "
            f"item snapshot of {self.online} stay as they were, services read on. Give it {remedy}, then run the "
            "same command again: it writes what is still missing."
        )


def _enable_concurrent_reads(online: Path) -> None:
    """Set SQLite's write-ahead log, which the file keeps: readers see the last complete batch and never wait."""
    with closing(sqlite3.connect(online)) as connection:
        connection.execute("pragma journal_mode = wal")


def _summary(view: View, count: Increment, seconds: float) -> str:
    late = f" ({count.late:,} late)" if count.late else ""
    reasons = {"unchanged": count.unchanged, "older than what is online": count.older, "of the future": count.later}
    left_out = "".join(f", {rows:,} {reason}" for reason, rows in reasons.items() if rows)
    rate = f", {count.written / max(seconds, 1e-9):,.0f} rows/s" if count.written else ""
    return f"{view.name}: {count.written:,} rows written{late}{left_out}; {seconds:.1f} s{rate}"
