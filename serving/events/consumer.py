"""The consumer of events: reads the queue in order, and merges what it reads into the states of the users.

What is applied is recorded in the store of the states, after the states themselves. A consumer that is killed in
between applies the same entries again, which changes nothing: states merge. A store that is made anew gets all that the
queue has.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import orjson

from features.schema import Schema
from features.session.events import Events
from serving.events.event_queue import Entry

BATCH = 2000  # entries that are read at once


class Queue(Protocol):
    """Where events wait: a file or a Redis."""

    @property
    def identity(self) -> str:
        """A name that no other queue has."""

    def put(self, events: Sequence[tuple[int, bytes]]) -> int:
        """Add events, each its id and its JSON; returns how many were not known yet."""

    def after(self, number: int, limit: int) -> list[Entry]:
        """The first `limit` entries behind the one with this number."""

    def behind(self, number: int) -> int:
        """How many entries are behind the one with this number."""

    def acknowledge(self, reader: str, number: int) -> None:
        """Record that `reader` needs no entry up to a number."""

    def forget(self, number: int, received_before: float) -> int:
        """Remove entries up to a number, received before a time, that no reader needs; returns how many."""

    def close(self) -> None:
        """Close it."""


class StateStore(Protocol):
    """Where the states of users are kept, and up to which entry of the queue they are complete."""

    def merge(self, users: Sequence[Any], events: Events) -> None:
        """Merge events into the states of `users`, to whose indices the codes of the events refer."""

    def applied(self, queue: str) -> int:
        """The number of the last entry of a queue that was applied; 0 at the beginning."""

    def advance(self, queue: str, before: int, number: int) -> int:
        """Record that `before` has become `number`; returns up to where the states are complete."""


class Consumer:
    """Applies a queue to the states of a store; `observed` gets the entries of each batch that has been applied."""

    def __init__(self, queue: Queue, store: StateStore, schema: Schema) -> None:
        self.queue, self.store, self.schema = queue, store, schema
        self.position = 0

    def step(self) -> list[Entry]:
        """Apply the next entries, BATCH at most; returns them. A new queue is read from its beginning.

        The store says where to go on: another consumer may have set it back (LiveSessions.advance).
        """
        identity = self.queue.identity
        self.position = self.store.applied(identity)
        entries = self.queue.after(self.position, BATCH)
        if entries:
            self.store.merge(*parse(entries, self.schema))
            self.position = self.store.advance(identity, self.position, entries[-1].number)
        return entries

    @property
    def depth(self) -> int:
        """How many entries wait."""
        return self.queue.behind(self.position)

    def forget(self, days: float) -> int:
        """Remove applied entries that were received more than so many days ago; returns how many."""
        return self.queue.forget(self.position, time.time() - days * 86_400)


def parse(entries: Sequence[Entry], schema: Schema) -> tuple[list[Any], Events]:
    """The users of the entries, each once, and the events, whose codes are indices of these users."""
    lines = [orjson.loads(entry.body) for entry in entries]
    users = list(dict.fromkeys(user for _, _, user, *_ in lines))
    codes, scenarios = ({value: code for code, value in enumerate(values)} for values in (users, schema.scenarios))
    items = [item for _, _, _, item, *_ in lines]
    labels = [[known.get(task, np.nan) for task in schema.averaged] for *_, known in lines]
    return users, Events(
        users=np.array([codes[user] for _, _, user, *_ in lines], np.int64),
        timestamps=np.array([timestamp for _, timestamp, *_ in lines], np.int64),
        event_ids=np.array([event_id for event_id, *_ in lines], np.int64),
        items=np.array(items, np.int64 if isinstance(items[0], int) else object),
        scenarios=np.array([scenarios[scenario] for *_, scenario, _ in lines], np.int64),
        outcomes=np.array(labels, np.float32).reshape(len(lines), len(schema.averaged)),
    )
