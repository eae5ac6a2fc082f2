"""Bring an online store that is in use up to a moment: what is new, what came late, and nothing of the future.

    python -m features.refresh --schema data/schema.json --features data/features \
      --online artifacts/serving/online.db --as-of 2026-01-18T02:00 --out artifacts/flows/online

The stage `materialize` makes a store from nothing; this one changes a store that others read meanwhile. Run twice it
writes nothing the second time; killed, it is run again. Afterwards a sample of the store is held against the offline
store, as by `inspect_online`; where they differ, all of the store is written again, once. Last of all the item snapshot
beside the store is replaced, which services take up by themselves.

With HINET_REDIS (host:port, and more as Feast has it) the store is that Redis; `online` names the files beside it only.

Exit status: 0 done, or nothing to do; 1 a sentence says why not; 75 the store is locked or not there: later.
"""

import dataclasses
import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import redis
from feast import FeatureStore

from common import params, stage
from common.errors import ParameterError, StoreError
from common.params import Params
from features.inspect_online import BORDER, check_online
from features.quality import gate
from features.quality.gate import Suite
from features.quality.results import to_json
from features.schema import Schema, View, read_schema, read_views
from features.store.definitions import REDIS, open_store
from features.store.incremental import BEGINNING, Increment, Watermark, digest, enter, replace, select_increment
from features.store.item_snapshot import snapshot_beside, write_snapshot

LOCKED = 75  # EX_TEMPFAIL of sysexits.h: try again later
WATERMARK = "watermark.json"


def refresh(*, schema: Path, features: Path, online: Path, as_of: datetime, out: Path) -> int:
    """Bring the SQLite online store `online` up to `as_of` (UTC) from the views under `features`.

    `out` gets refresh.json (what was written), check.json and docs/ (how the store compares). Returns the exit status;
    raises ValidationError if the store differs from the offline store even when all of it was written again,
    ParameterError if a run up to a later moment was begun and did not end, and StoreError if Redis or the disk is full.
    """
    moment = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
    try:
        with _alone(online):
            told = OnlineStore(schema=schema, features=features, online=online).bring(moment, out)
    except BlockingIOError:
        return _locked(online, "another refresh is at work")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return _locked(online, "another process writes to it")
    except (redis.ConnectionError, redis.TimeoutError) as error:
        print(
            f"\nfeatures.refresh stopped: the Redis of {REDIS}: {error}. Run the same command later.", file=sys.stderr
        )
        return LOCKED
    replace(out / "refresh.json", to_json(told))
    return 0


def _locked(online: Path, why: str) -> int:
    print(f"\nfeatures.refresh stopped: {online} is locked: {why}. Run the same command later.", file=sys.stderr)
    return LOCKED


def _let_others_read(online: Path) -> None:
    """A write-ahead log, which the file keeps: a reader sees what stood there until a batch is in, and never waits."""
    with closing(sqlite3.connect(online)) as connection:
        connection.execute("pragma journal_mode = wal")


@contextmanager
def _alone(online: Path) -> Iterator[None]:
    """One refresh of a store at a time; the lock of a killed one is gone with it."""
    folder = beside(online)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def beside(online: Path) -> Path:
    """The folder beside the store that says what stands in it."""
    return online.with_name(f"{online.name}.written")


class OnlineStore:
    """A store in use, and what is known of it."""

    def __init__(self, *, schema: Path, features: Path, online: Path) -> None:
        self.schema: Schema = read_schema(schema)
        self.views: tuple[View, ...] = read_views(features / "views.json")
        self.features, self.online, self.folder = features, online, beside(online)
        self.declared = digest(features / "views.json")
        self.watermark = Watermark.read(self.folder / WATERMARK)
        self.settings: Params = params.load()
        self.redis = os.environ.get(REDIS)

    def bring(self, moment: datetime, out: Path) -> dict[str, Any]:
        """Write what is missing as of `moment`, hold a sample against the offline store; returns what was done."""
        if moment < self.watermark.done:
            sentence = f"nothing to do: the store was brought up to {self.watermark.done:%Y-%m-%d %H:%M} UTC already"
            print(sentence, flush=True)
            if not snapshot_beside(self.online).exists():  # filled by a version that knew none
                self._write_snapshot(self.watermark.done)
            return {"as_of": moment.isoformat(), "skipped": sentence}
        self._refuse_what_would_go_back(moment)
        anew = self._unknown()
        counts = self._write(moment, anew=anew)
        suites = self._check(moment)
        again = any(suite.faults for suite in suites) and not anew
        if again:
            print("online and offline differ before the overlap: all of the store is written again", flush=True)
            counts, suites = self._write(moment, anew=True), self._check(moment)
        border = dataclasses.replace(BORDER, remedy=self._remedy())
        gate.conclude(border, suites, name=self.schema.name, report=out / "check.json", docs=out / "docs")
        self._write_snapshot(moment)
        views = dict.fromkeys((view.name for view in self.views), moment)
        Watermark(views=views, declared=self.declared).write(self.folder / WATERMARK)
        told = {name: dataclasses.asdict(count) for name, count in counts.items()}
        sample = {suite.name: suite.rows for suite in suites}
        return {
            "as_of": moment.isoformat(),
            "skipped": None,
            "whole": anew or again,
            "again": again,
            "views": told,
            "compared": sample,
        }

    def _refuse_what_would_go_back(self, moment: datetime) -> None:
        begun = self.watermark.begun
        if begun is not None and begun > moment:
            raise ParameterError(
                f"--as-of {moment:%Y-%m-%dT%H:%M}: a run up to {begun:%Y-%m-%dT%H:%M} was begun and did not end, so "
                f"{self.online} may hold values of that moment. "
                f"Run again with --as-of {begun:%Y-%m-%dT%H:%M:%S} or later."
            )

    def _unknown(self) -> bool:
        """Whether nothing is known of what the store holds: there is none, it is new, or its columns are others."""
        there = self.redis is not None or self.online.exists()
        return not there or not self.watermark.views or self.watermark.declared != self.declared

    def _write(self, moment: datetime, *, anew: bool) -> dict[str, Increment]:
        """Write the increment of each view through Feast; the ledgers follow, and say what was written."""
        self._begin(moment, anew=anew)
        if self.redis is None:
            _let_others_read(self.online)
        with TemporaryDirectory() as scratch:
            ibis.set_backend(ibis.duckdb.connect(memory_limit="2GB", temp_directory=scratch))  # Feast reads with it
            rows = Path(scratch)
            counts = {view.name: self._select(view, rows, moment) for view in self.views}
            store = self._open(rows, rows)
            for view in self.views:
                started = time.perf_counter()
                if counts[view.name].written:
                    with self._room(view, counts[view.name].written):
                        store.materialize(BEGINNING, moment, feature_views=[view.name])
                    enter(view, rows / f"{view.name}.parquet", self._ledger(view))
                print(_told(view, counts[view.name], time.perf_counter() - started), flush=True)
        return counts

    @contextmanager
    def _room(self, view: View, rows: int) -> Iterator[None]:
        """Raises StoreError where there is no room for the `rows` of `view`, in the Redis or on the disk."""
        try:
            yield
        except redis.OutOfMemoryError as error:
            address = str(self.redis).split(",")[0]  # without its password
            more = (
                "memory (`redis-cli config set maxmemory 4gb`, and in its configuration) or remove what else it holds"
            )
            raise self._full(f"the Redis of {REDIS} ({address})", view, rows, error, more=more) from error
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            more = "room: `df -h` tells what is left"
            raise self._full(f"the disk of {self.online}", view, rows, error, more=more) from error

    def _full(self, what: str, view: View, rows: int, error: Exception, *, more: str) -> StoreError:
        return StoreError(
            f"{what} is full: expected room for {rows:,} rows of the view {view.name}, found {error}. Watermark and "
            f"item snapshot beside {self.online} stay as they were, services read on. Give it {more}, then run the "
            "same command again: it writes what is still missing."
        )

    def _begin(self, moment: datetime, *, anew: bool) -> None:
        """Say what will be written before anything is; `anew`: forget what was."""
        if anew:
            self.watermark = Watermark()
        self.watermark = dataclasses.replace(self.watermark, begun=moment)
        self.watermark.write(self.folder / WATERMARK)
        if anew:
            for ledger in self.folder.glob("*.parquet"):
                ledger.unlink()

    def _select(self, view: View, rows: Path, moment: datetime) -> Increment:
        return select_increment(
            view,
            self.features,
            self._ledger(view),
            rows / f"{view.name}.parquet",
            watermark=self.watermark.views.get(view.name, BEGINNING),
            overlap=timedelta(hours=self.settings.materialize.overlap_hours),
            moment=moment,
        )

    def _ledger(self, view: View) -> Path:
        return self.folder / f"{view.name}.parquet"

    def _check(self, moment: datetime) -> list[Suite]:
        with TemporaryDirectory() as scratch:
            store, sample = self._open(self.features, Path(scratch)), self.settings.inspect.sample
            return check_online(store, self.schema, self.views, self.features, sample, moment=moment)

    def _open(self, features: Path, scratch: Path) -> FeatureStore:
        registry = scratch / "registry.db"
        return open_store(
            self.schema, self.views, features=features, online=self.online, registry=registry, redis=self.redis
        )

    def _write_snapshot(self, moment: datetime) -> None:
        path = snapshot_beside(self.online)
        items = write_snapshot(self.schema, self.views, features=self.features, moment=moment, path=path)
        print(f"{path}: {items:,} items", flush=True)

    def _remedy(self) -> str:
        return f"Nothing but this command may write to {self.online}; remove {self.folder}, then run it again."


def _told(view: View, count: Increment, seconds: float) -> str:
    late = f" ({count.late:,} late)" if count.late else ""
    stay = {"unchanged": count.unchanged, "older than what is online": count.older, "of the future": count.later}
    out = "".join(f", {rows:,} {why}" for why, rows in stay.items() if rows)
    rate = f", {count.written / max(seconds, 1e-9):,.0f} rows/s" if count.written else ""
    return f"{view.name}: {count.written:,} rows written{late}{out}; {seconds:.1f} s{rate}"


if __name__ == "__main__":
    stage.run(refresh)
