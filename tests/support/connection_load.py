"""Requests in a new connection each, from many clients at once, and what became of them."""

import asyncio
import collections
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

REFUSED_PAUSE = 0.05  # seconds before a client that found nobody tries again
LIMIT = 10.0  # seconds, of every stop
ATTEMPT = 30.0  # seconds of one request


def outcomes_of_a_stop(
    processes: Sequence[subprocess.Popen[Any]], port: int, request: Any, *, clients: int
) -> collections.Counter[str]:
    """What becomes of requests before, during and after the stop of these processes, which takes 10 s at most."""

    async def run() -> collections.Counter[str]:
        async with connection_load(port, request, clients=clients) as outcomes:
            while not outcomes["200"]:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            for process in processes:
                process.send_signal(signal.SIGTERM)
            stopped = time.monotonic()
            await asyncio.gather(*(asyncio.to_thread(process.wait, LIMIT) for process in processes))
            assert time.monotonic() - stopped < LIMIT
        return outcomes

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def connection_load(port: int, request: Any, *, clients: int) -> AsyncIterator[collections.Counter[str]]:
    """Send `request` from `clients` until the block ends; the outcomes so far, complete after it.

    An outcome is the status of a complete answer, "refused", or the name of what went wrong: "ConnectionResetError",
    "empty" (the connection ended without an answer), "cut" (with a part of one), "TimeoutError".
    """
    outcomes: collections.Counter[str] = collections.Counter()
    ended, body = asyncio.Event(), json.dumps(request).encode()
    head = f"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    sent = f"{head}Connection: close\r\n\r\n".encode() + body

    async def client() -> None:
        while not ended.is_set():
            outcomes[outcome := await _outcome(port, sent)] += 1
            await asyncio.sleep(REFUSED_PAUSE if outcome == "refused" else 0)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        yield outcomes
    finally:
        ended.set()
        await asyncio.gather(*tasks)


async def _outcome(port: int, sent: bytes) -> str:
    try:
        async with asyncio.timeout(ATTEMPT):
            return await _answer(port, sent)
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:  # TimeoutError, too
        return type(error).__name__


async def _answer(port: int, sent: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not head:
        return "empty"
    return head.split()[1].decode() if lengths == [len(body)] else "cut"
