"""A hostile client as a process: several connections at a time, some of which it never reads or never ends."""

import asyncio
import json
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.serving.hostile_requests import KINDS

CONNECTIONS = 8  # of a client at a time
ANSWER_SECONDS = 12.0  # that an answer is waited for
KEPT_OPEN = 40  # connections that are neither read nor closed; the oldest one is closed for a new one
ABANDONED = 0.1  # share of the connections that are kept open without being read
NO_ANSWER = "none"  # instead of a status


class HostileClient:
    """Sends hostile requests to a port of 127.0.0.1 and counts the answers by kind and status."""

    def __init__(self, port: int, valid: dict[str, Any], seed: int) -> None:
        self.port, self.valid, self.random = port, valid, Random(seed)
        self.answers: Counter[tuple[str, str]] = Counter()
        self.kept: list[asyncio.StreamWriter] = []

    async def run(self, seconds: float) -> None:
        """Send one request after another on each of CONNECTIONS."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._one_after_another(until) for _ in range(CONNECTIONS)))
        for writer in self.kept:
            writer.close()

    async def _one_after_another(self, until: float) -> None:
        while time.monotonic() < until:
            kind = self.random.choice(KINDS)
            self.answers[kind.__name__, await self._send(kind(self.random, self.valid))] += 1

    async def _send(self, request: bytes) -> str:
        """The status of the answer; NO_ANSWER where the connection ended, or was abandoned."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            await asyncio.sleep(0.2)
            return NO_ANSWER
        writer.write(request)
        if self.random.random() < ABANDONED:
            return self._abandon(writer)
        status = NO_ANSWER
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(ANSWER_SECONDS):
                status = (await reader.readline()).decode("latin-1").split(" ")[1:2][0]
                await reader.read(1000)
        with suppress(IndexError):
            writer.close()
        return status

    def _abandon(self, writer: asyncio.StreamWriter) -> str:
        self.kept.append(writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        if len(self.kept) > KEPT_OPEN:
            self.kept.pop(0).close()
        return NO_ANSWER


def send_hostile(port: int, valid: dict[str, Any], *, seed: int, seconds: float, out: Path) -> None:
    """Run a client for `seconds` and write its counts, by kind and status, to `out`."""
    client = HostileClient(port, valid, seed)
    asyncio.run(client.run(seconds))
    counts: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(client.answers.items()):
        counts.setdefault(kind, {})[status] = count
    out.write_text(json.dumps(counts), encoding="utf-8")
