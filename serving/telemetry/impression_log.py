"""What the service saw and said: one row per scored item, as Parquet by hour, for a share of the requests.

A request pays for a hash and a place in a queue; a thread writes. A file is complete or has another name. Whatever
goes wrong here is counted and logged, and never reaches a request.
"""

import contextlib
import hashlib
import logging
import queue
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from common.params import ServeLog

REQUEST, MOMENT, PLACE, MODEL, SCORE = "request_id", "served_at", "place", "model_tag", "score_"
WAITING = 1000  # requests: what comes while so many wait is left out and counted
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One answered request: feature rows [N] by name as the encoder read them, and probabilities [N, O].

    The rows are asked for by the thread that writes them, only where the request is drawn.
    """

    rows: Callable[[], pa.Table]
    keys: dict[str, Any]  # user, scenario and items: their columns, where the encoder does not read them
    outputs: Sequence[str]  # names of the probabilities
    probabilities: NDArray[np.float64]
    model: str

    def table(self, request_id: str, moment: datetime) -> pa.Table:
        """The rows of the log, in the order of the request."""
        rows = self.rows()
        count = rows.num_rows
        columns: dict[str, Any] = {
            REQUEST: pa.repeat(request_id, count),
            MOMENT: pa.repeat(pa.scalar(moment, pa.timestamp("us")), count),
            PLACE: pa.array(range(count), pa.int32()),
        }
        for name, value in self.keys.items():
            columns[name] = pa.array(value if isinstance(value, list) else [value] * count)
        columns |= dict(zip(rows.column_names, rows.columns, strict=True))
        columns |= {SCORE + name: self.probabilities[:, place] for place, name in enumerate(self.outputs)}
        return pa.table(columns | {MODEL: pa.repeat(self.model, count)})


class Logged(Protocol):
    """What the log can hold."""

    def table(self, request_id: str, moment: datetime) -> pa.Table:
        """The rows of a request, answered at `moment`."""
        ...


class ServedLog:
    """Writes `folder/day=YYYY-MM-DD/hour=HH/*.parquet`; `written` and `failed` count requests, `missed` those left out.

    All items of a request are kept, or none: `sample` is the share of the requests.
    """

    def __init__(self, *, folder: Path, sample: float, rows_per_file: int, seconds: float) -> None:
        self.folder, self.sample, self.rows_per_file, self.seconds = folder, sample, rows_per_file, seconds
        self.written = self.failed = self.missed = 0
        self._queue: queue.Queue[tuple[str, datetime, Logged] | None] = queue.Queue(WAITING)
        self._held: dict[Path, list[pa.Table]] = defaultdict(list)
        self._thread = threading.Thread(target=self._run, name="served log", daemon=True)
        self._thread.start()

    def add(self, scored: Logged, request_id: str | None = None, moment: datetime | None = None) -> None:
        """Keep the request if it is drawn; returns at once and raises nothing.

        `moment` is UTC without a zone. Default: an id of its own, and now.
        """
        try:
            request_id = request_id or uuid.uuid4().hex
            if sampled(request_id, self.sample):
                self._queue.put_nowait((request_id, moment or datetime.now(UTC).replace(tzinfo=None), scored))
        except queue.Full:
            self.missed += 1
        except Exception:
            self._fail("a request could not be kept", 1)

    def close(self, timeout: float = 30) -> None:
        """Write what is waiting and stop."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
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

    def _hold(self, request_id: str, moment: datetime, scored: Logged) -> None:
        path = self.folder / f"day={moment:%Y-%m-%d}" / f"hour={moment:%H}"
        try:
            self._held[path].append(scored.table(request_id, moment))
        except Exception:
            return self._fail("a request could not be laid out as rows", 1)
        if sum(part.num_rows for part in self._held[path]) >= self.rows_per_file:
            self._write(path)
        return None

    def _write_all(self) -> None:
        for path in list(self._held):
            self._write(path)

    def _write(self, folder: Path) -> None:
        """The rows that are held for `folder` as a file: it gets its name when it is complete."""
        parts = self._held.pop(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"part-{uuid.uuid4().hex}.parquet"
            half = path.with_suffix(".half")
            pq.write_table(pa.concat_tables(parts, promote_options="permissive"), half)
            half.replace(path)
            self.written += len(parts)
        except Exception:
            self._fail(f"{len(parts)} requests could not be written to {folder}", len(parts))

    def _fail(self, what: str, requests: int) -> None:
        self.failed += requests
        _LOGGER.warning("served log: %s (%d lost so far)", what, self.failed, exc_info=True)


def sampled(request_id: str, share: float) -> bool:
    """Whether a request is drawn: the same id is always drawn, or never, and whatever a larger share draws, too."""
    first = hashlib.sha256(request_id.encode()).digest()[:8]
    return int.from_bytes(first, "big") < share * 2**64


def open_log(settings: ServeLog, root: Path, folder: str | None = None) -> ServedLog | None:
    """The log that params.yaml asks for, or None; `folder` overrides its folder, a relative one is under `root`."""
    chosen = folder or settings.folder
    if chosen is None:
        return None
    return ServedLog(
        folder=root / chosen, sample=settings.sample, rows_per_file=settings.rows_per_file, seconds=settings.seconds
    )
