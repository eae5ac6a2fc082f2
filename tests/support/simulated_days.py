"""Days of a platform on the service of a project: it ranks, shows what is first, and reports what came of it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from features.engine.session_view import session_views
from features.schema import Schema
from features.store.live_sessions import LiveSessions, open_live_store
from models.model_folder import Model
from serving import service
from serving.events.consumer import Consumer
from serving.events.event_queue import EventQueue
from serving.http.middleware import ApiMiddleware
from serving.ranking.ranker import Ranker
from tests.support import tiny_project

SHOWN, CANDIDATES = 6, 20
DEVICES = ("ios", "android", "web")


@contextmanager
def open_service(project: Path, events: Path, impressions: Path) -> Iterator[Any]:
    """An instance of the service in this process, which takes events and logs every request."""
    log = {"log": {"folder": str(impressions), "sample": 1.0, "rows_per_file": 10_000, "seconds": 5.0}}
    with tiny_project.restored_service(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "serve_params", lambda: tiny_project.with_read_timeout(project, **log))
        patch.setenv("HINET_MODEL", str(project / tiny_project.MODEL))
        patch.setenv("HINET_ONLINE_STORE", str(project / tiny_project.ONLINE))
        patch.setenv("HINET_EVENTS", str(events))
        one = service.RankingService.inner()  # type: ignore[attr-defined]
        try:
            yield one
        finally:
            one.close()


class SimulatedDays:
    """Visits of the users of a project to its service; `now` is its clock."""

    def __init__(self, project: Path, ranker: Ranker, events: Path, start: datetime) -> None:
        self.ranker, self.now, self.ids = ranker, start, iter(range(10**6, 10**7))
        tables = (project / "data/ingested" / f"{table}.parquet" for table in ("users", "items"))
        self.users, self.items = (pq.read_table(table)[0].to_pylist() for table in tables)
        self.random = np.random.default_rng(0)
        model: Model = ranker.loaded.model
        self.schema: Schema = model.schema
        (view, *_) = session_views(model.views)
        store = open_live_store(self.schema, view, folder=events, registry=events / "simulated.db")
        self.queue = EventQueue(events)
        self.consumer = Consumer(self.queue, LiveSessions(store, self.schema, view), self.schema)
        ranker.clock = lambda: self.now.timestamp()

    async def run(self, days: int, visits: int) -> int:
        """So many days with so many visits each; returns the number of events."""
        transport = httpx.ASGITransport(ApiMiddleware(api=service.api), raise_app_exceptions=True)
        events, begin = 0, self.now
        with closing(self.queue):
            async with httpx.AsyncClient(transport=transport, base_url="http://hinet") as client:
                for day in range(days):
                    for seconds in np.sort(self.random.uniform(3600, 82_800, visits)).tolist():
                        self.now = begin + timedelta(days=day, seconds=seconds)
                        events += await self._visit(client)
        return events

    async def _visit(self, client: httpx.AsyncClient) -> int:
        """Two rankings of one user: what the first shows, and what comes of it, is known to the second."""
        user, scenario = int(self.random.choice(self.users)), str(self.random.choice(self.schema.scenarios[:2]))
        shown = 0
        for _ in range(2):
            candidates = self.random.permutation(self.items)[:CANDIDATES].tolist()
            body = {
                "user_id": user,
                "scenario": scenario,
                "candidates": candidates,
                "k": SHOWN,
                "context": self._context(),
            }
            ranked = await client.post("/rank", json=body)
            assert ranked.status_code == 200, ranked.text
            self.now += timedelta(seconds=2)
            events = [self._event(user, scenario, item) for item in ranked.json()["item_ids"]]
            await self._report(client, [event | {"labels": {}} for event in events])
            self.now += timedelta(seconds=20)
            await self._report(client, events)
            shown += len(events)
        return shown

    def _context(self) -> dict[str, Any]:
        """What the simulation's rows have of a request."""
        when = {"hour": self.now.hour, "weekday": f"{self.now:%a}"}
        return when | {"device": str(self.random.choice(DEVICES)), "distance_km": float(self.random.uniform(0.3, 9))}

    def _event(self, user: int, scenario: str, item: int) -> dict[str, Any]:
        """An item that was shown; a third of the items are liked."""
        click = int(self.random.random() < (0.6 if item % 3 == 0 else 0.1))
        order = click * int(self.random.random() < 0.4)
        names = {"event_id": next(self.ids), "user_id": user, "item_id": item, "scenario": scenario}
        return names | {"timestamp": self.now.isoformat(), "labels": {"click": click, "order": order}}

    async def _report(self, client: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
        """Acknowledged, then applied."""
        taken = await client.post("/events", json=events)
        assert taken.json() == {"accepted": len(events), "duplicates": 0}, taken.text
        self.consumer.step()
