"""`bentoml serve` as a process, started as a user would."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx


@contextlib.contextmanager
def bentoml_serve(
    arguments: Sequence[Path | str], folder: Path, home: Path, **environment: Any
) -> Iterator[httpx.Client]:
    """A client of `bentoml serve arguments`, started in `folder` with the BENTOML_HOME `home`."""
    with bentoml_process(arguments, folder, home, **environment) as (client, _):
        yield client


@contextlib.contextmanager
def bentoml_process(
    arguments: Sequence[Path | str], folder: Path, home: Path, **environment: Any
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """The client of `bentoml_serve`, and the process that watches the workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = {"BENTOML_HOME": str(home)} | {name: str(value) for name, value in environment.items()}
    command = [sys.executable, "-m", "bentoml", "serve", *map(str, arguments), "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, env=os.environ | changes, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client, server
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_ready(*clients: httpx.Client, seconds: float = 240) -> None:
    """Return when every server is ready."""
    until = time.monotonic() + seconds
    for client in clients:
        while not _is_ready(client):
            assert time.monotonic() < until, f"{client.base_url} is not ready after {seconds} s"
            time.sleep(0.2)


def _is_ready(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False


def complete_answer(client: httpx.Client, request: dict[str, Any], seconds: float = 60) -> httpx.Response:
    """The response to `request` once it is not degraded: on a busy machine the store may be too slow at first."""
    until = time.monotonic() + seconds
    while (response := client.post("/rank", json=request)).status_code == 200 and response.json()["degraded"]:
        assert time.monotonic() < until, response.text
        time.sleep(0.2)
    return response
