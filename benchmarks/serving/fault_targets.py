"""What the fault benchmark breaks: copies of a model and its stores, and a Redis behind a proxy; and how."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.serving.proxy import Proxy, proxy
from benchmarks.serving.servers import free_port, redis_server
from benchmarks.serving.stores import fill_redis, locked_file
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import WEIGHTS, read_model

DELAY = 0.05  # seconds


class RestartableRedis:
    """A Redis that can be killed and started again with the data that it held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._running = ExitStack()

    def __enter__(self) -> "RestartableRedis":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self) -> None:
        """Start it with what was saved."""
        _, self.process = self._running.enter_context(redis_server("--dir", str(self.folder), port=self.port))

    def kill(self) -> None:
        """Save its data, then kill it."""
        with closing(self.client()) as client:
            client.save()
        self.process.kill()

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(port=self.port)


@dataclass(frozen=True)
class Targets:
    """Copies of a model and its stores, and a Redis behind a proxy."""

    model: Path
    online: Path
    redis: RestartableRedis
    proxy: Proxy


Fault = Callable[[Targets], AbstractContextManager[None]]


@contextmanager
def targets(scratch: Path, model: Path, online: Path, features: Path | None) -> Iterator[Targets]:
    """Copies in `scratch`; the Redis is empty without `features`."""
    copied, store = scratch / "model", scratch / "online.db"
    shutil.copytree(model, copied)
    shutil.copyfile(online, store)
    shutil.copyfile(item_snapshot_path(online), item_snapshot_path(store))
    with RestartableRedis(scratch) as server, proxy(server.port) as between:
        if features is not None:
            fill_redis(server.port, read_model(copied), features)
        yield Targets(copied, store, server, between)


@contextmanager
def frozen(targets: Targets) -> Iterator[None]:
    """Redis is stopped: connections stay open, and no answer comes."""
    targets.redis.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        targets.redis.process.send_signal(signal.SIGCONT)


@contextmanager
def killed(targets: Targets) -> Iterator[None]:
    """Redis is gone: connections are refused."""
    targets.redis.kill()
    try:
        yield
    finally:
        targets.redis.start()


@contextmanager
def slow(targets: Targets) -> Iterator[None]:
    """Every answer of Redis comes DELAY later."""
    targets.proxy.delay = DELAY
    try:
        yield
    finally:
        targets.proxy.delay = 0.0


@contextmanager
def full(targets: Targets) -> Iterator[None]:
    """Redis has no memory left: it refuses every command that needs more."""
    with closing(targets.redis.client()) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def locked(targets: Targets) -> Iterator[None]:
    """Another process has an exclusive lock on the SQLite file."""
    with locked_file(targets.online):
        yield


@contextmanager
def truncated(targets: Targets) -> Iterator[None]:
    """The item snapshot lacks its second half."""
    with _changed(item_snapshot_path(targets.online), lambda content: content[: len(content) // 2]):
        yield


@contextmanager
def one_byte(targets: Targets) -> Iterator[None]:
    """One byte of the weights is changed."""
    with _changed(targets.model / WEIGHTS, lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]):
        yield


@contextmanager
def _changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    content = path.read_bytes()
    path.write_bytes(change(content))
    try:
        yield
    finally:
        path.write_bytes(content)


FAULTS: dict[str, tuple[str, Fault]] = {  # by name: the store of the service, and the fault
    "Redis frozen (SIGSTOP)": ("redis", frozen),
    "Redis killed (SIGKILL), started again": ("redis", killed),
    "Redis slow by 50 ms": ("redis", slow),
    "Redis full (maxmemory)": ("redis", full),
    "SQLite locked by another process": ("sqlite", locked),
    "item snapshot cut in half": ("sqlite", truncated),
    "one byte of the weights changed": ("sqlite", one_byte),
}
