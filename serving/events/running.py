"""The loop of the consumer: it waits for events, goes on after faults of the store, and follows the model."""

import logging
import threading
import time
from pathlib import Path

import orjson

from features.engine.session_view import session_views
from features.schema import DType, Role, Schema, View, read_schema, read_views
from features.store.live_sessions import LiveSessions, open_live_store
from serving.events.consumer import Consumer, parse
from serving.events.consumer_lock import ConsumerLock
from serving.events.event_queue import Entry
from serving.events.queues import FAULTS, open_queue
from serving.telemetry.event_metrics import EventMetrics

IDLE_SECONDS, FAULT_SECONDS, FOLLOW_SECONDS, FORGET_SECONDS = 0.02, 1.0, 5.0, 3600.0
KEPT_DAYS = 7.0  # for which an entry stays in the queue after it was received
_LOGGER = logging.getLogger(__name__)


class Applier:
    """Applies the events in `folder` to the sessions that the model in the folder `model` reads.

    `scratch` is a folder for the registry of Feast, and for the store of the warm-up.
    """

    def __init__(self, model: Path, folder: Path, *, scratch: Path, redis: str | None) -> None:
        self.model, self.folder, self.scratch, self.redis = model, folder, scratch, redis
        self.queue, self.lock = open_queue(folder, redis), ConsumerLock(redis)
        self._declared = _declared(model)

    def warm_up(self) -> None:
        """Apply an event to a store that nobody reads: the first push of a process takes most of a second."""
        schema, views = self._declared
        keys = (schema.by_role(role)[0] for role in (Role.USER, Role.ITEM))
        ids = ["0" if key.dtype is DType.STRING else 0 for key in keys]
        line = orjson.dumps([0, 0, *ids, schema.scenarios[0], {}])
        for view in session_views(views):
            store = open_live_store(schema, view, folder=self.scratch / "none", registry=self.scratch / "none.db")
            LiveSessions(store, schema, view).merge(*parse([Entry(1, 0.0, line)], schema))

    def run(self, stop: threading.Event, metrics: EventMetrics) -> None:
        """Apply events until `stop` is set, or the model is one that reads no session features.

        Raises ConsumerRunningError where another consumer applies the events of the Redis.
        """
        while not stop.is_set():
            try:
                self.lock.wait(stop)
                consumer = self._open()
                if consumer is None:
                    break
                self._apply(consumer, stop, metrics)
            except FAULTS as fault:
                _LOGGER.warning("events wait: %s; the next attempt is in %g s", fault, FAULT_SECONDS)
                stop.wait(FAULT_SECONDS)
        self.lock.release()
        self.queue.close()

    def _open(self) -> Consumer | None:
        """A consumer for the model as it is now; None where it reads no session features."""
        self._declared = _declared(self.model)
        schema, views = self._declared
        if not (sessions := session_views(views)):
            return None
        (view, *_) = sessions
        store = open_live_store(schema, view, folder=self.folder, registry=self.scratch / "live.db", redis=self.redis)
        return Consumer(self.queue, LiveSessions(store, schema, view), schema)

    def _apply(self, consumer: Consumer, stop: threading.Event, metrics: EventMetrics) -> None:
        """Apply events until `stop` is set, the model is another one, or another consumer has the lock."""
        followed = forgotten = time.monotonic()
        while not stop.is_set() and self.lock.renew():
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


def _declared(model: Path) -> tuple[Schema, tuple[View, ...]]:
    """Schema and views of the model in a folder."""
    folder = model.resolve()
    return read_schema(folder / "schema.json"), read_views(folder / "views.json")
