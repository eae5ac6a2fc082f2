"""What the service does while something is broken: a steady load, a fault in the middle, what came of each request.

    python -m benchmarks.serving.faults --json faults.json
    python -m benchmarks.serving.faults --only "SQLite, snapshot, weights" --json files.json    # a word of each name

Redis killed, frozen, slow by 50 ms, full; SQLite locked; the item snapshot cut; a byte of the weights changed. Each
fault comes after BEFORE seconds and is taken back after DURING more. Everything happens to copies.
"""

import json as text
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.table import Table

from benchmarks.serving.benchmark import machine, told
from benchmarks.serving.bodies import asked, write_bodies
from benchmarks.serving.points import Offered, offer, percentiles, start_load
from benchmarks.serving.proxy import Proxy, proxy
from benchmarks.serving.servers import OURS, free_port, leave_nothing_behind, redis_server, serve
from benchmarks.serving.stores import ADDRESS, fill_redis, locked_file
from common import stage
from common.errors import ParameterError, PipelineError
from features.store.item_snapshot import snapshot_beside
from models.model_folder import read_model

BEFORE, DURING, AFTER = 4.0, 8.0, 12.0  # seconds
CANDIDATES, RATE, USERS = 200, 40.0, 1000
SLOW = 0.05  # seconds
REFUSES = 90.0  # seconds after which a service that is not ready will not be: it took 13 to 17


class Redis:
    """A Redis that can be killed and started again with what it held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._running = ExitStack()

    def __enter__(self) -> "Redis":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self) -> None:
        """Start it, with what was saved."""
        _, self.process = self._running.enter_context(redis_server("--dir", str(self.folder), port=self.port))

    def kill(self) -> None:
        """End it without a word, after it saved what it holds."""
        with closing(self.client()) as client:
            client.save()
        self.process.kill()

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(port=self.port)


@dataclass(frozen=True)
class World:
    """Copies of a model and its stores, and a Redis behind a proxy."""

    model: Path
    online: Path
    redis: Redis
    proxy: Proxy


Fault = Callable[[World], AbstractContextManager[None]]


@contextmanager
def frozen(world: World) -> Iterator[None]:
    """Redis is stopped: connections stay open, nothing comes."""
    world.redis.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        world.redis.process.send_signal(signal.SIGCONT)


@contextmanager
def killed(world: World) -> Iterator[None]:
    """Redis is gone: connections are refused."""
    world.redis.kill()
    try:
        yield
    finally:
        world.redis.start()


@contextmanager
def slow(world: World) -> Iterator[None]:
    """Every answer of Redis comes SLOW later."""
    world.proxy.delay = SLOW
    try:
        yield
    finally:
        world.proxy.delay = 0.0


@contextmanager
def full(world: World) -> Iterator[None]:
    """Redis has no memory left: it refuses whatever would need more."""
    with closing(world.redis.client()) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def locked(world: World) -> Iterator[None]:
    """Another process holds the SQLite file for itself."""
    with locked_file(world.online):
        yield


@contextmanager
def cut(world: World) -> Iterator[None]:
    """The item snapshot lacks its second half."""
    with _changed(snapshot_beside(world.online), lambda whole: whole[: len(whole) // 2]):
        yield


@contextmanager
def one_byte(world: World) -> Iterator[None]:
    """One byte of the weights is another one."""
    with _changed(world.model / "weights.safetensors", lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        yield


@contextmanager
def _changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    try:
        yield
    finally:
        path.write_bytes(whole)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of the requests while something was broken, and afterwards."""

    fault: str
    requests: int
    errors: int
    degraded: int
    p50: float
    p99: float
    longest: float
    recovered_after: float | None  # s from the end of the fault to the last degraded or failed answer
    at_start: str  # what a service does that is started meanwhile


FAULTS: dict[str, tuple[str, Fault]] = {
    "Redis frozen (SIGSTOP)": ("redis", frozen),
    "Redis killed (SIGKILL), started again": ("redis", killed),
    "Redis slow by 50 ms": ("redis", slow),
    "Redis full (maxmemory)": ("redis", full),
    "SQLite locked by another process": ("sqlite", locked),
    "item snapshot cut in half": ("sqlite", cut),
    "one byte of the weights changed": ("sqlite", one_byte),
}


def faults(
    *,
    json: Path = Path("artifacts/faults.json"),
    model: Path = Path("artifacts/models/hinet"),
    online: Path = Path("artifacts/online.db"),
    features: Path = Path("data/features"),
    only: str = "",
    rate: float = RATE,
) -> None:
    """Break one thing after another under a load on copies of `model` and `online`; print the table, write `json`.

    `only` those faults whose names hold one of these words, between commas. `features`: for Redis.
    """
    leave_nothing_behind()
    chosen = chosen_faults(only)
    filled = features if any(store == "redis" for store, _ in chosen.values()) else None
    with TemporaryDirectory(prefix="hinet-faults-") as scratch, _world(Path(scratch), model, online, filled) as world:
        bodies = write_bodies(Path(scratch) / "bodies.jsonl", asked(read_model(world.model), CANDIDATES, USERS))
        found = [
            asdict(_suffer(world, name, store, fault, bodies=bodies, rate=rate))
            for name, (store, fault) in chosen.items()
        ]
    report = {"machine": machine(), "rate": rate, "candidates": CANDIDATES, "seconds": DURING, "faults": found}
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(text.dumps(report, indent=1) + "\n")
    show(found, rate)


def chosen_faults(only: str) -> dict[str, tuple[str, Fault]]:
    """The faults whose names hold one of the words of `only`, between commas; all of them where there is none."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(word in name for name in FAULTS):
            raise ParameterError(f"--only: no fault is named {word!r}; expected a word of: {', '.join(FAULTS)}")
    return {name: fault for name, fault in FAULTS.items() if not words or any(word in name for word in words)}


def _suffer(world: World, name: str, store: str, fault: Fault, *, bodies: Path, rate: float) -> Found:
    environment = {"HINET_MODEL": str(world.model), "HINET_ONLINE_STORE": str(world.online)}
    environment |= {ADDRESS: f"127.0.0.1:{world.proxy.port}"} if store == "redis" else {}
    with serve(OURS, environment=environment) as server:
        offer(server, bodies, rate=rate, seconds=2)
        seconds = BEFORE + DURING + AFTER
        with start_load(server, bodies, rate, seconds) as running:
            time.sleep(BEFORE)
            with fault(world):
                broken = running.elapsed  # a lock, for one, is waited for
                time.sleep(DURING)
            mended = running.elapsed
            offered = running.result()
    with fault(world):
        at_start = _at_start(environment)
    found = _judge(name, offered, broken, mended, at_start)
    told(
        f"{name}: {found.errors} errors, {found.degraded} of {found.requests} degraded, p99 {found.p99:.0f} ms; "
        f"at the start: {at_start}"
    )
    return found


def _judge(name: str, offered: Offered, broken: float, mended: float, at_start: str) -> Found:
    during, after = offered.between(broken, mended), offered.between(mended, np.inf)
    p50, _, p99, longest = percentiles(during.latency)
    bad = after.moments[(after.status != 200) | after.degraded]
    return Found(
        fault=name,
        requests=len(during.status),
        errors=int((offered.status != 200).sum()),
        degraded=int(during.degraded.sum()),
        p50=p50,
        p99=p99,
        longest=longest,
        recovered_after=round(float(bad.max()) - mended, 1) if len(bad) else 0.0,
        at_start=at_start,
    )


def _at_start(environment: dict[str, str]) -> str:
    """What a service says that is started now: that it is ready, or the last line of its refusal."""
    try:
        with serve(OURS, environment=environment, patience=REFUSES) as server:
            return f"ready after {server.ready_after:.0f} s"
    except PipelineError as error:
        lines = [line for line in str(error).splitlines() if "Error" in line or "expected" in line]
        return f"refuses: {(lines or str(error).splitlines())[-1].strip()[:200]}"


@contextmanager
def _world(scratch: Path, model: Path, online: Path, features: Path | None) -> Iterator[World]:
    """Copies in `scratch`; the Redis is empty without `features`."""
    copied, store = scratch / "model", scratch / "online.db"
    shutil.copytree(model, copied)
    shutil.copyfile(online, store)
    shutil.copyfile(snapshot_beside(online), snapshot_beside(store))
    with Redis(scratch) as server, proxy(server.port) as between:
        if features is not None:
            fill_redis(server.port, read_model(copied), features)
        yield World(copied, store, server, between)


def show(found: list[dict[str, Any]], rate: float) -> None:
    """Print a line per fault."""
    title = f"{rate:.0f} requests/s of {CANDIDATES} candidates, {DURING:.0f} s of fault"
    table = Table(
        "fault",
        "requests",
        "errors",
        "degraded",
        "p50 ms",
        "p99 ms",
        "longest",
        "whole again after s",
        "a service that is started meanwhile",
        title=title,
    )
    for one in found:
        ms = (f"{one[name]:.1f}" for name in ("p50", "p99", "longest"))
        table.add_row(
            one["fault"],
            str(one["requests"]),
            str(one["errors"]),
            str(one["degraded"]),
            *ms,
            f"{one['recovered_after']:.1f}",
            one["at_start"],
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    stage.run(faults)
