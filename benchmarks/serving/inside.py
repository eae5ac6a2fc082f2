"""A request without a network, in this process: the service's own part, and what it is held against.

    forward   the network's eager forward of the same rows, encoded beforehand
    feast     plain get_online_features for the same rows (the user's repeated)
    plain     feast, encode and forward: the ranking of benchmarks/serving/plain.py without HTTP
    service   our whole ASGI application: body in, body out
    degraded  the same while another connection holds the SQLite file, once the store is given up

Every round does each of the first four once on the same request, so that what else the machine does falls on all of
them.
"""

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
import pyarrow as pa
import torch

from benchmarks.serving.bodies import asked
from benchmarks.serving.stores import locked_file
from common import stage
from common.errors import PipelineError
from features.encoding.encoder import Batch
from features.engine.arrow_types import arrow_schema
from features.schema import View
from features.store.definitions import open_store
from features.store.item_snapshot import snapshot_beside
from models.model_folder import read_model

WARM_UP = 5
FORWARD, FEAST, PLAIN, SERVICE, DEGRADED = "forward", "feast", "plain", "service", "degraded"


class PlainRanker:
    """Ranks by the plainest code: a Feast row per item, the encoder, the network, a sort."""

    def __init__(self, folder: Path, online: Path, registry: Path) -> None:
        torch.set_num_threads(1)
        self.model = read_model(folder)
        schema, views = self.model.schema, self.model.views
        self.store = open_store(schema, views, features=online.parent, online=online, registry=registry)
        scenario = (c for c in schema.events if c.name == schema.scenario and c not in self.model.encoder.columns)
        self.types = arrow_schema((*self.model.encoder.columns, *scenario))
        self.features = [f"{view.name}:{name}" for view in views for name in _names(view) if name in self.types.names]

    def rank(self, user: Any, scenario: str, items: list[Any]) -> dict[str, Any]:
        """The items, best first."""
        probabilities = self.forward(self.encode(self.read(user, scenario, items))).sigmoid()
        scores = probabilities.sum(dim=1)
        order = scores.argsort(descending=True).tolist()
        said = {"items": [items[place] for place in order], "scores": scores[order].tolist()}
        names = self.model.schema.output_names
        return said | {"probabilities": dict(zip(names, probabilities[order].T.tolist(), strict=True))}

    def read(self, user: Any, scenario: str, items: list[Any]) -> dict[str, list[Any]]:
        """All features of every row, by name."""
        schema = self.model.schema
        rows = [{schema.user: user, schema.scenario: scenario, schema.item: item} for item in items]
        return self.store.get_online_features(features=self.features, entity_rows=rows).to_dict()

    def encode(self, found: dict[str, list[Any]]) -> Batch:
        """The rows as tensors; what a request does not say is unknown."""
        count = len(next(iter(found.values())))
        columns = [pa.array(found.get(field.name, [None] * count), field.type) for field in self.types]
        return self.model.encoder.encode(pa.table(columns, schema=self.types))

    @torch.inference_mode()
    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, O]."""
        inputs = (torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario))
        logits: torch.Tensor = self.model.network(*inputs)
        return logits


def inside(
    *, model: Path, online: Path, json: Path, candidates: tuple[int, ...] = (200, 500), rounds: int = 100
) -> None:
    """Time `rounds` requests for each number of `candidates`; milliseconds of each part go to `json`."""
    with TemporaryDirectory() as scratch:
        own = Path(shutil.copy(online, scratch))  # to be locked
        shutil.copy(snapshot_beside(online), snapshot_beside(own))
        os.environ |= {"HINET_MODEL": str(model.absolute()), "HINET_ONLINE_STORE": str(own)}
        plain = PlainRanker(model, own, Path(scratch) / "registry.db")
        found = asyncio.run(_measure(plain, own, candidates, rounds))
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(text.dumps(found) + "\n")


async def _measure(plain: PlainRanker, online: Path, candidates: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Median and 99th percentile of every part, in milliseconds, by number of candidates."""
    from serving import service

    app = service.RankingService.to_asgi()  # type: ignore[attr-defined]
    async with app.router.lifespan_context(app):
        taken = {count: await _times(plain, app, count, rounds) for count in candidates}
        with locked_file(online):
            for count in candidates:
                taken[count][DEGRADED] = await _degraded(plain, app, count, rounds)
    return {
        str(count): {name: {"median": median(ms), "p99": float(np.percentile(ms, 99))} for name, ms in of.items()}
        for count, of in taken.items()
    }


async def _degraded(plain: PlainRanker, app: Any, candidates: int, rounds: int) -> list[float]:
    """Milliseconds of each answer that is flagged; the first ones, which wait for the store, are left out."""
    taken = []
    for number, request in enumerate(asked(plain.model, candidates, rounds + WARM_UP)):
        body = orjson.dumps(request)
        started = time.perf_counter()
        said = await call(app, body)
        if number >= WARM_UP:
            taken.append((time.perf_counter() - started) * 1e3)
            if orjson.loads(said)["degraded"] is None:
                raise PipelineError(f"{app} has read a store that is locked: the answer to {body[:80]!r} is whole")
    return taken


async def _times(plain: PlainRanker, app: Any, candidates: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every part, round by round."""
    taken: dict[str, list[float]] = {}
    for number, request in enumerate(asked(plain.model, candidates, rounds + WARM_UP)):
        user, scenario, items = request["user_id"], request["scenario"], request["candidates"]
        batch = plain.encode(plain.read(user, scenario, items))
        body = orjson.dumps(request)
        parts: dict[str, Callable[[], Any]] = {
            FORWARD: partial(plain.forward, batch),
            FEAST: partial(plain.read, user, scenario, items),
            PLAIN: partial(plain.rank, user, scenario, items),
            SERVICE: partial(call, app, body),
        }
        for name, part in parts.items():
            started = time.perf_counter()
            done = part()
            if isinstance(done, Awaitable):
                await done
            if number >= WARM_UP:
                taken.setdefault(name, []).append((time.perf_counter() - started) * 1e3)
    return taken


async def call(app: Any, body: bytes, path: str = "/rank") -> bytes:
    """The answer of an ASGI application to a POST; raises RuntimeError where its status is not 200."""
    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    waiting, said = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else await _never()

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in said)
    if said[0]["status"] != 200:
        raise RuntimeError(f"POST {path}: expected 200, found {said[0]['status']}: {answer[:200]!r}")
    return answer


async def _never() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def _names(view: View) -> list[str]:
    return [column.name for column in view.columns]


if __name__ == "__main__":
    stage.run(inside)
