"""The parts of a request in this process, each timed on the same requests: see benchmarks/serving/inside.py."""

import asyncio
import json as text
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson

from benchmarks.serving.bodies import sample_requests
from benchmarks.serving.plain_ranker import PlainRanker
from benchmarks.serving.stores import locked_file
from common.errors import PipelineError
from common.files import write_text
from common.settings import variable
from features.store.item_snapshot import item_snapshot_path

WARM_UP = 5
FORWARD, FEAST, PLAIN, SERVICE, DEGRADED = "forward", "feast", "plain", "service", "degraded"


def measure_parts(model: Path, online: Path, json: Path, candidates: tuple[int, ...], rounds: int) -> None:
    """Time `rounds` requests for each number of `candidates`; milliseconds of each part go to `json`."""
    with TemporaryDirectory() as scratch:
        copy = Path(shutil.copy(online, scratch))  # it will be locked
        shutil.copy(item_snapshot_path(online), item_snapshot_path(copy))
        os.environ |= {variable("model"): str(model.absolute()), variable("online_store"): str(copy)}
        plain = PlainRanker(model, copy, Path(scratch) / "registry.db")
        measured = asyncio.run(_measure(plain, copy, candidates, rounds))
    write_text(json, text.dumps(measured) + "\n")


async def _measure(plain: PlainRanker, online: Path, candidates: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Median and 99th percentile of every part, in milliseconds, by number of candidates."""
    from serving import service

    app = service.RankingService.to_asgi()  # type: ignore[attr-defined]
    async with app.router.lifespan_context(app):
        times = {count: await _times(plain, app, count, rounds) for count in candidates}
        with locked_file(online):
            for count in candidates:
                times[count][DEGRADED] = await _degraded(plain, app, count, rounds)
    return {
        str(count): {name: {"median": median(ms), "p99": float(np.percentile(ms, 99))} for name, ms in of.items()}
        for count, of in times.items()
    }


async def _degraded(plain: PlainRanker, app: Any, candidates: int, rounds: int) -> list[float]:
    """Milliseconds of each degraded answer, without the first ones, which wait for the store."""
    times = []
    for number, request in enumerate(sample_requests(plain.model, candidates, rounds + WARM_UP)):
        body = orjson.dumps(request)
        started = time.perf_counter()
        answer = await call(app, body)
        if number >= WARM_UP:
            times.append((time.perf_counter() - started) * 1e3)
            if orjson.loads(answer)["degraded"] is None:
                raise PipelineError(f"{app} has read a store that is locked: the answer to {body[:80]!r} is complete")
    return times


async def _times(plain: PlainRanker, app: Any, candidates: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every part, round by round."""
    times: dict[str, list[float]] = {}
    for number, request in enumerate(sample_requests(plain.model, candidates, rounds + WARM_UP)):
        user, scenario, items = request["user_id"], request["scenario"], request["candidates"]
        batch = plain.encode(plain.read(user, scenario, items))
        parts: dict[str, Callable[[], Any]] = {
            FORWARD: partial(plain.forward, batch),
            FEAST: partial(plain.read, user, scenario, items),
            PLAIN: partial(plain.rank, user, scenario, items),
            SERVICE: partial(call, app, orjson.dumps(request)),
        }
        for name, part in parts.items():
            started = time.perf_counter()
            result = part()
            if isinstance(result, Awaitable):
                await result
            if number >= WARM_UP:
                times.setdefault(name, []).append((time.perf_counter() - started) * 1e3)
    return times


async def call(app: Any, body: bytes, path: str = "/rank") -> bytes:
    """The answer of an ASGI application to a POST; raises RuntimeError where its status is not 200."""
    waiting, sent = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else await _never()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(_scope(body, path), receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"POST {path}: expected 200, found {sent[0]['status']}: {answer[:200]!r}")
    return answer


def _scope(body: bytes, path: str) -> dict[str, Any]:
    headers = {b"host": b"127.0.0.1", b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers.items()),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


async def _never() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}
