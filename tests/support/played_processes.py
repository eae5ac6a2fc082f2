"""What flows are tested with: modules that say and leave what a test wants, and somebody who is told."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import world

Play = tuple[int, list[str], dict[str, Any]]  # exit status, lines, JSON by path, or by the option that names the path


def played(*plays: Play, commands: list[list[str]]) -> Callable[..., Awaitable[int]]:
    """A `run_process` that plays one after the other, the last again and again; the commands are kept."""
    left = list(plays)

    async def run_process(command: list[str], *, cwd: Path, log: Callable[[str], None]) -> int:
        commands.append(command)
        status, lines, files = left.pop(0) if len(left) > 1 else left[0]
        for line in lines:
            log(line)
        for name, document in files.items():
            path = command[command.index(name) + 1] if name in command else name
            (cwd / path).parent.mkdir(parents=True, exist_ok=True)
            (cwd / path).write_text(json.dumps(document))
        return status

    return run_process


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that answers `status`: its address, and what was posted to it."""
    posted: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *values: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", posted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def artifact(key: str) -> str:
    """The newest artifact of that key, as the server has it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    async def read() -> str:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        async with get_client() as client:
            (found,) = await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
            return str(found.data)

    return asyncio.run(read())


def notify(folder: Path, block: str | None) -> None:
    """params.yaml in `folder`, with somebody to tell."""
    world.write_params(folder, flows__notify=block)
