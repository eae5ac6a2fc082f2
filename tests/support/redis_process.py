"""A redis-server process for a test, in memory only."""

import contextlib
import json
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from features.refresh import refresh
from tests.support.dvc_project import free_port
from tests.support.stages import no_data_docs

NEWEST = datetime(2026, 1, 11, 1, tzinfo=UTC)  # of the features of the tiny world
PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="there is no redis-server: apt-get install redis-server")


class RedisProcess:
    """A Redis at `port`, or a free one; its `process` may be frozen, and it may be stopped and started again, empty."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder, self.options = folder, options
        self.start()

    @property
    def address(self) -> str:
        """The value of HINET_REDIS."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([str(PROGRAM), *options, *self.options], stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(redis.ConnectionError):
                self.client.ping()
                return
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it, frozen or not."""
        self.client.close()
        self.process.kill()
        self.process.wait()


def refresh_redis(project: Path, folder: Path, address: str, as_of: datetime = NEWEST) -> dict:
    """Refresh a Redis from the features of a project; returns the report, and keeps its files in `folder`."""
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(project):
        patch.setenv("HINET_REDIS", address)
        data = project / "data"
        refresh(
            schema=data / "schema.json",
            features=data / "features",
            online=folder / "online.db",
            as_of=as_of,
            out=folder / "out",
        )
    return json.loads((folder / "out/refresh.json").read_text())


def filled_folder(project: Path, folder: Path, address: str) -> Path:
    """Fill the Redis with the features of a project; returns `folder`, which holds the item snapshot."""
    with no_data_docs():
        refresh_redis(project, folder, address)
    return folder
