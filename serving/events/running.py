"""The loop of the consumer: it waits for events, goes on after faults of the store, and follows the model."""

import logging
import sqlite3
import threading
import time
from pathlib import Path

import redis

from features.engine.session_view import session_views
from features.schema import Schema, View, read_schema, read_views
from features.store.live_sessions import LiveSessions, open_live_store
from serving.events.consumer import Consumer
from serving.events.event_queue import EventQueue
from serving.telemetry.event_metrics import EventMetrics

IDLE_SECONDS, FAULT_SECONDS, FOLLOW_SECONDS, FORGET_SECONDS = 0.02, 1.0, 5.0, 3600.0
KEPT_DAYS = 7.0  # for which an entry stays in the queue after it was received
_LOGGER = logging.getLogger(__name__)


class Applier:
    """Applies the events in `folder` to the sessions that the model in the folder `model` reads."""

    def __init__(self, model: Path, folder: Path, *, registry: Path, redis: str | None) -> None:
        self.model, self.folder, self.registry, self.redis = model, folder, registry, redis
        self.queue = EventQueue(folder)
        self._declared = _declared(model)

    def run(self, stop: threading.Event, metrics: EventMetrics) -> None:
        """Apply events until `stop` is set; of a model without session features there is nothing to apply."""
        while not stop.is_set():
            try:
                consumer = self._open()
                if consumer is None:
                    self._wait_for_another_model(stop)
                else:
                    self._apply(consumer, stop, metrics)
            except (redis.RedisError, sqlite3.OperationalError) as fault:
                _LOGGER.warning("events wait: %s; the next attempt is in %g s", fault, FAULT_SECONDS)
                stop.wait(FAULT_SECONDS)
        self.queue.close()

    def _open(self) -> Consumer | None:
        """A consumer for the model as it is now; None where it reads no session features."""
        self._declared = _declared(self.model)
        schema, views = self._declared
        if not (sessions := session_views(views)):
            return None
        (view, *_) = sessions
        store = open_live_store(schema, view, folder=self.folder, registry=self.registry, redis=self.redis)
        return Consumer(self.queue, LiveSessions(store, schema, view), schema)

    def _apply(self, consumer: Consumer, stop: threading.Event, metrics: EventMetrics) -> None:
        """Apply events until `stop` is set or the model is another one."""
        followed = forgotten = time.monotonic()
        while not stop.is_set():
            entries = consumer.step()
            metrics.applied(entries, consumer.depth)
            now = time.monotonic()
            if now - followed > FOLLOW_SECONDS:
                followed = now
                if _declared(self.model) != self._declared:
                    return
            if now - forgotten > FORGET_SECONDS:
                forgotten = now
                consumer.forget(KEPT_DAYS)
            if not entries:
                stop.wait(IDLE_SECONDS)

    def _wait_for_another_model(self, stop: threading.Event) -> None:
        _LOGGER.warning("%s reads no session features: events wait (aggregate.session.events)", self.model)
        while not stop.wait(FOLLOW_SECONDS) and _declared(self.model) == self._declared:
            pass


def _declared(model: Path) -> tuple[Schema, tuple[View, ...]]:
    """Schema and views of the model in a folder."""
    folder = model.resolve()
    return read_schema(folder / "schema.json"), read_views(folder / "views.json")
