"""The scored-impression log: one row per scored item, in Parquet files by hour, for a share of the requests.

A request costs a hash and an entry in a queue; a thread writes. Files appear when they are complete. Errors are
counted and logged, and never reach a request.
"""

import contextlib
import logging
import queue
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from common.files import replacing
from common.serve_params import ServeLog
from serving.ranking.ab_split import in_share
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult, ScoredCandidates
from serving.telemetry.byte_queue import ByteQueue

REQUEST_ID, SERVED_AT, POSITION, MODEL, SCORE = "request_id", "served_at", "place", "model_tag", "score_"  # columns
ARM = "ab_arm"  # column during an A/B test
QUEUE_SIZE, QUEUE_BYTES = 1000, 8 * 2**20  # requests, and about the bytes they were read from: more are dropped
HELD_BYTES = 128 * 2**20  # of rows in memory: beyond them a file is written before it has all its rows
COPIES = 4  # bytes that a request holds for each of a probability: ids, indices, order
_LOGGER = logging.getLogger(__name__)


class LogEntry(Protocol):
    """What the log can write."""

    def table(self, request_id: str, served_at: datetime) -> pa.Table:
        """The rows of a request that was answered at `served_at`."""
        ...


@dataclass(frozen=True)
class Impressions:
    """The impressions of an answered request as a log entry; `arm` is that of its user in an A/B test."""

    candidates: ScoredCandidates
    arm: str | None = None

    def table(self, request_id: str, served_at: datetime) -> pa.Table:
        """The rows of the log, in the order of the request."""
        rows = self.candidates.rows()
        columns: dict[str, Any] = entry_columns(rows.num_rows, request_id, served_at)
        for name, value in self.candidates.keys.items():
            columns[name] = pa.array(value if isinstance(value, list) else [value] * rows.num_rows)
        columns |= dict(zip(rows.column_names, rows.columns, strict=True))
        for index, output in enumerate(self.candidates.outputs):
            columns[SCORE + output] = self.candidates.probabilities[:, index]
        columns[MODEL] = pa.repeat(self.candidates.model, rows.num_rows)
        return pa.table(columns | ({ARM: pa.repeat(self.arm, rows.num_rows)} if self.arm else {}))


def entry_columns(count: int, request_id: str, served_at: datetime) -> dict[str, Any]:
    """The columns that every row of an entry of `count` rows begins with."""
    return {
        REQUEST_ID: pa.repeat(request_id, count),
        SERVED_AT: pa.repeat(pa.scalar(served_at, pa.timestamp("us")), count),
        POSITION: pa.array(range(count), pa.int32()),
    }


class ImpressionLog:
    """Writes `folder/day=YYYY-MM-DD/hour=HH/*.parquet` for the share `sample` of the requests.

    A request is kept with all its items, or not at all. Counted are requests: `written`, `missed` because the queue
    was full, and `failed`.
    """

    def __init__(self, *, folder: Path, sample: float, rows_per_file: int, seconds: float) -> None:
        self.folder, self.sample, self.rows_per_file, self.seconds = folder, sample, rows_per_file, seconds
        self.written = self.failed = self.missed = 0
        self._queue: ByteQueue[tuple[str, datetime, LogEntry]] = ByteQueue(QUEUE_SIZE, QUEUE_BYTES)
        self._held: dict[Path, list[pa.Table]] = defaultdict(list)
        self._held_bytes = 0
        self._thread = threading.Thread(target=self._run, name="impression log", daemon=True)
        self._thread.start()

    def ranked(self, request: RankRequest, result: RankingResult, candidates: ScoredCandidates) -> None:
        """Keep the candidates of a request (a ranking observer)."""
        size = request.size + COPIES * candidates.probabilities.nbytes
        self.add(Impressions(candidates, result.arm), served_at=candidates.served_at, size=size)

    def add(
        self, entry: LogEntry, request_id: str | None = None, served_at: datetime | None = None, *, size: int = 0
    ) -> None:
        """Keep the entry of about `size` bytes if its request is sampled; returns at once and raises nothing.

        `served_at` is UTC without a time zone. Default: a new id, and now.
        """
        try:
            request_id = request_id or uuid.uuid4().hex
            if in_share(request_id, self.sample):
                served_at = served_at or datetime.now(UTC).replace(tzinfo=None)
                self._queue.put_nowait((request_id, served_at, entry), size)
        except queue.Full:
            self.missed += 1
        except Exception:
            self._count_failure("a request could not be kept", 1)

    def close(self, timeout: float = 30) -> None:
        """Write what is in the queue and stop."""
        with contextlib.suppress(queue.Full):
            self._queue.end(timeout)
        self._thread.join(timeout)

    def _run(self) -> None:
        due = time.monotonic() + self.seconds
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + self.seconds
                self._write_all()
                continue
            if item is None:
                return self._write_all()
            self._hold(*item)

    def _hold(self, request_id: str, served_at: datetime, entry: LogEntry) -> None:
        folder = self.folder / f"day={served_at:%Y-%m-%d}" / f"hour={served_at:%H}"
        try:
            rows = entry.table(request_id, served_at)
        except Exception:
            return self._count_failure("a request could not be laid out as rows", 1)
        self._held[folder].append(rows)
        self._held_bytes += rows.nbytes
        if self._held_bytes >= HELD_BYTES:
            return self._write_all()
        if sum(part.num_rows for part in self._held[folder]) >= self.rows_per_file:
            self._write(folder)
        return None

    def _write_all(self) -> None:
        for folder in list(self._held):
            self._write(folder)

    def _write(self, folder: Path) -> None:
        """Write the rows held for `folder` as a new file."""
        parts = self._held.pop(folder)
        self._held_bytes -= sum(part.nbytes for part in parts)
        try:
            with replacing(folder / f"part-{uuid.uuid4().hex}.parquet") as partial:
                pq.write_table(pa.concat_tables(parts, promote_options="permissive"), partial)
            self.written += len(parts)
        except Exception:
            self._count_failure(f"{len(parts)} requests could not be written to {folder}", len(parts))

    def _count_failure(self, what: str, requests: int) -> None:
        self.failed += requests
        _LOGGER.warning("impression log: %s (%d lost so far)", what, self.failed, exc_info=True)


def open_impression_log(settings: ServeLog, root: Path, folder: Path | None = None) -> ImpressionLog | None:
    """The log that params.yaml names, or None; `folder` overrides its folder, a relative one is under `root`."""
    path = folder or settings.folder
    if path is None:
        return None
    return ImpressionLog(
        folder=root / path, sample=settings.sample, rows_per_file=settings.rows_per_file, seconds=settings.seconds
    )
