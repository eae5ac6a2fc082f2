"""A request to its answer: candidates and the user's features -> encoder -> network -> probabilities -> order."""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.params import Serve
from features.encoding.encoder import UNKNOWN, Batch
from features.schema import Kind, newest_day
from serving.ranking.explanation import explain
from serving.ranking.feature_client import Row
from serving.ranking.item_catalogue import Places
from serving.ranking.loaded_model import Sources, State, open_state
from serving.ranking.request import ALL, RankRequest
from serving.ranking.result import ENCODE, FEATURES, MODEL, Explanation, Ranked
from serving.shadow.client import Shadow
from serving.telemetry.impression_log import Scored, ServedLog

REPLAYED, EVERY = 32, 16  # requests that a new state answers before it is used: the last of every so many
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates:
    """The items that a request is about, after its filters, with their places in the catalogue [N].

    `overrides` are other values of some of their columns, in the same order.
    """

    items: Sequence[Any]
    places: Places
    overrides: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Seen:
    """A request as one state sees it: its candidates, and its user encoded [1, ..], with the `row` of the store.

    `values` are all that is known of the user, the `keys` among them; `rows` the encoded candidates [N, ..] where the
    request changes their columns. `known`: whether the model has a row of its own for the user, None where it reads no
    ids of users. `fault`: why his features may be others.
    """

    candidates: Candidates
    row: Row
    keys: Mapping[str, Any]
    values: Mapping[str, Any]
    user: Batch
    rows: Batch | None
    known: bool | None
    fault: str | None


class Ranker:
    """Ranks items for a user in a scenario; `log` keeps what was seen and said, `shadow` asks a second model.

    `state` is exchanged as a whole while requests are answered; each request takes it once.
    """

    def __init__(self, state: State, settings: Serve, log: ServedLog | None = None) -> None:
        self.state, self.log = state, log
        self.shadow: Shadow | None = None
        self.oldest = None if settings.stale_hours is None else settings.stale_hours * 3600
        self.recent: deque[RankRequest] = deque(maxlen=REPLAYED)
        self._answered = 0

    def rank(self, request: RankRequest) -> Ranked:
        """The items of `request` by its objective, descending; ties stay in the order of the request."""
        ranked, scored = self.answer(self.state, request)
        if self._answered % EVERY == 0:
            self.recent.append(request)
        self._answered += 1
        if self.log is not None:
            self.log.add(scored)
        if self.shadow is not None:
            self.shadow.ranked(request, ranked)
        return ranked

    def warm(self, state: State, requests: Sequence[RankRequest] = ()) -> None:
        """Let `state` answer `requests` and those kept of the last ones, so that the first that counts is not slow."""
        for request in (*requests, *self.recent):
            self.answer(state, request)

    def answer(self, state: State, request: RankRequest) -> tuple[Ranked, Scored]:
        """What `state` says of a request, and what it saw."""
        clock = [time.perf_counter()]
        keys = {state.schema.user: request.user_id, state.schema.scenario: request.scenario}
        candidates = candidates_of(state, request)
        row, fault = state.users.row(keys)
        clock.append(time.perf_counter())
        seen = _seen(state, request, candidates, keys, row=row, fault=fault)
        clock.append(time.perf_counter())
        found, failed = self._probabilities(state, seen)  # [N, O]
        clock.append(time.perf_counter())
        ranked = self._ranked(state, request, seen, found=found, failed=failed, clock=clock)
        return ranked, _scored(state, seen, found)

    def _ranked(
        self,
        state: State,
        request: RankRequest,
        seen: Seen,
        *,
        found: NDArray[np.float64],
        failed: str | None,
        clock: list[float],
    ) -> Ranked:
        """The best of the candidates, with what has to be said of them."""
        scores, order = _order(request, state.schema.output_names, found)
        places = seen.candidates.places[order]
        asked, phases = seen.candidates.items, zip((FEATURES, ENCODE, MODEL), pairwise(clock), strict=True)
        items = [asked[place] for place in order.tolist()]
        return Ranked(
            items=items,
            scores=scores[order],
            probabilities=dict(zip(state.schema.output_names, found[order].T, strict=True)),
            model=state.model.tag,
            data_date=state.catalogue.moment,
            considered=len(seen.candidates.places),
            unknown_user=seen.known is False,
            unknown_items=[items[place] for place in np.flatnonzero(state.catalogue.unknown[places]).tolist()],
            stale=self._stale(state, seen.row, seen.candidates.places),
            degraded="; ".join(filter(None, (seen.fault, failed))) or None,
            seconds={phase: end - start for phase, (start, end) in phases},
            explanation=_explained(state, seen, order) if request.explain and items else None,
        )

    def _probabilities(self, state: State, seen: Seen) -> tuple[NDArray[np.float64], str | None]:
        """Probabilities [N, O], and why they are not the model's."""
        places = seen.candidates.places
        try:
            found = state.scorer.score(seen.user, places, seen.rows)
            if np.isfinite(found).all():
                return found, None
            reason = "its answer is not finite"
        except Exception as error:  # whatever it is: an answer without the model is better than none
            _LOGGER.exception("the model %s could not answer", state.model.tag)
            reason = type(error).__name__
        rates = state.priors.score(int(seen.user.scenario[0]), places)
        return rates, f"model: {reason}; the order is that of label rates"

    def _stale(self, state: State, row: Row, places: Places) -> dict[str, int]:
        """By view, how many of the rows that were read are older than the limit."""
        if self.oldest is None:
            return {}
        since = int(time.time() - self.oldest)
        found = {view: 1 for view, moment in row.moments.items() if moment < since}
        moments = state.catalogue.moments[places]
        old = int(np.count_nonzero((moments > 0) & (moments < since)))
        return found | ({state.catalogue.view: old} if old else {})


def candidates_of(state: State, request: RankRequest) -> Candidates:
    """The items that a request asks for and its filters let through."""
    catalogue, overrides = state.catalogue, request.overrides.get("items", {})
    every = request.candidates == ALL
    items = catalogue.ids if every else request.candidates
    places = np.arange(catalogue.items) if every else catalogue.places(items)
    if not request.filters:
        return Candidates(items, places, overrides)
    kept = np.flatnonzero(catalogue.matching(request.filters, places))
    chosen = kept.tolist()
    changed = {name: [values[place] for place in chosen] for name, values in overrides.items()}
    return Candidates([items[place] for place in chosen], places[kept], changed)


def open_ranker(sources: Sources, settings: Serve) -> Ranker:
    """A ranker with the model and the features of `sources`; raises ModelError and SnapshotError.

    Sets this process to one torch thread: a request is too small for two, and they fight with whatever else runs.
    """
    torch.set_num_threads(1)
    return Ranker(open_state(sources, settings), settings)


def _seen(
    state: State, request: RankRequest, candidates: Candidates, keys: Mapping[str, Any], *, row: Row, fault: str | None
) -> Seen:
    own = request.overrides.get("user", {})
    undated = {newest_day(name): None for name in own}  # the store's day is not that of a sequence that is given
    values = {**request.context, **row.values, **keys, **undated, **own}
    user = state.encoder.encode(values, state.schema.scenarios.index(request.scenario))
    known = _known_user(state, user)
    if known and not fault and not row.moments and state.users.views:
        fault = "online store: it holds nothing of a user whom the model knows; was it emptied?"
    rows = state.overridden(candidates.items, candidates.places, candidates.overrides)
    return Seen(candidates, row, keys, values, user, rows, known, fault)


def _known_user(state: State, user: Batch) -> bool | None:
    """Whether the model has a row of its own for the user; None where it reads no ids of users."""
    names = [column.name for column in state.model.encoder.columns if column.kind is Kind.CATEGORICAL]
    if state.schema.user not in names:
        return None
    return bool(user.categorical[0, names.index(state.schema.user)] != UNKNOWN)


def _order(
    request: RankRequest, outputs: Sequence[str], found: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores [N] by the objective of a request, and the places of its best k, descending."""
    scores = found @ np.array([request.objective.get(name, 0.0) for name in outputs])
    return scores, np.argsort(-scores, kind="stable")[: request.k]


def _explained(state: State, seen: Seen, order: NDArray[np.int64]) -> Explanation:
    rows = state.scorer.joined(seen.user, seen.candidates.places[order], _some(seen.rows, order))
    return explain(state.model, rows, state.missing(int(seen.user.scenario[0])))


def _some(rows: Batch | None, order: NDArray[np.int64]) -> Batch | None:
    if rows is None:
        return None
    return Batch(rows.categorical[order], rows.bags[order], rows.numeric[order], rows.scenario[order])


def _scored(state: State, seen: Seen, found: NDArray[np.float64]) -> Scored:
    """What goes into the log: the rows are laid out there, not in the request."""
    places, overrides = seen.candidates.places, seen.candidates.overrides
    items = list(seen.candidates.items)[: len(places)]
    return Scored(
        rows=lambda: state.logged(seen.values, state.items(items, places, overrides)),
        keys={**seen.keys, state.schema.item: items},
        outputs=state.schema.output_names,
        probabilities=found,
        model=state.model.tag,
    )
