"""The intake of POST /events: validates one event or several, and puts them into the queue."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NoReturn

import pydantic
from pydantic import BaseModel, Field, TypeAdapter

from features.engine.session_view import session_views
from features.schema import Schema, View
from serving.events.consumer import Queue
from serving.events.event_request import Event, batch_type, event_type
from serving.events.queues import FAULTS, open_queue
from serving.http.limits import RETRY_AFTER
from serving.http.problem_details import ProblemError, validation_problem
from serving.ranking.model_sources import ModelSources

THREADS = 8  # that wait for the disk; requests that arrive at once share a transaction


class EventsResponse(BaseModel):
    """What became of the events of a request: all of them are on the disk."""

    accepted: int = Field(description="Events that were not known yet, or of which more is known now")
    duplicates: int = Field(description="Events of which the same was said before")


class EventIntake:
    """Takes events of `schema` into a queue, `limit` of them at once; an id has at most `text` characters."""

    def __init__(self, schema: Schema, queue: Queue, *, limit: int, text: int) -> None:
        self.accepted = event_type(schema, text=text)
        self.one, self.many = TypeAdapter(self.accepted), TypeAdapter(batch_type(self.accepted, limit))
        self.queue, self.threads = queue, ThreadPoolExecutor(THREADS, "events")

    def take(self, body: bytes) -> EventsResponse:
        """Put the events of a body into the queue: all or none. It waits for the disk.

        Raises ProblemError where the body breaks a rule, or the queue cannot be written.
        """
        events = self._events(body)
        try:
            accepted = self.queue.put([(event.event_id, event.line()) for event in events])
        except FAULTS as error:
            _refuse(error)
        return EventsResponse(accepted=accepted, duplicates=len(events) - accepted)

    def close(self) -> None:
        """Close the queue, when the requests that wait for it have been answered."""
        self.threads.shutdown()
        self.queue.close()

    def _events(self, body: bytes) -> list[Event]:
        several = body.lstrip()[:1] == b"["
        try:
            events: list[Event] = self.many.validate_json(body) if several else [self.one.validate_json(body)]
            return events
        except pydantic.ValidationError as error:
            raise validation_problem(error) from None


def open_intake(
    schema: Schema, views: Sequence[View], sources: ModelSources, *, limit: int, text: int
) -> EventIntake | None:
    """The intake of a model with these views; None where it reads no session features, or no folder is for events."""
    if sources.events is None or not session_views(views):
        return None
    return EventIntake(schema, open_queue(sources.events, sources.redis), limit=limit, text=text)


def _refuse(error: Exception) -> NoReturn:
    detail = f"the queue of events cannot be written ({error}): nothing was taken, send the request again"
    raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER) from error
