"""The ranker: request -> candidates and user features -> encoder -> network -> probabilities -> order."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from common.serve_params import Serve
from features.encoding.encoder import UNKNOWN, Batch
from features.schema import Kind, newest_day
from features.session.features import SECOND
from serving.ranking.candidates import Candidates, select_candidates
from serving.ranking.circuit_breaker import UnavailableError
from serving.ranking.diversity import diversified
from serving.ranking.explanation import explain
from serving.ranking.feature_client import UserRow
from serving.ranking.item_catalogue import ItemIndex
from serving.ranking.loaded_model import LoadedModel, load_model
from serving.ranking.model_sources import ModelSources
from serving.ranking.request import RankRequest
from serving.ranking.result import (
    ENCODE,
    FEATURES,
    MODEL,
    Explanation,
    Floats,
    RankingObserver,
    RankingResult,
    ScoredCandidates,
)
from serving.ranking.sessions import encoded_pairs

EPOCH = datetime(1970, 1, 1)  # UTC, without a zone
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedRequest:
    """A request as one model reads it: its candidates, and its user encoded [1, ..], with the user's `row`.

    `keys` are user and scenario by column, `values` everything known of the user by column. `rows` are the encoded
    candidates [N, ..] where the request overrides columns of them. `compared` are the counts of a session's comparison
    with each [N] by column, `pairs` [N, P] those that the model reads, scaled. `known` says whether the model has an
    embedding of the user's id, None if it reads no user ids. `fault` is the reason why the features may be outdated or
    missing.
    """

    candidates: Candidates
    row: UserRow
    keys: Mapping[str, Any]
    values: Mapping[str, Any]
    user: Batch
    rows: Batch | None
    compared: Mapping[str, NDArray[np.int64]]
    pairs: NDArray[np.float32] | None
    known: bool | None
    fault: str | None


class Ranker:
    """Ranks items for a user in a scenario; every ranking is passed to the `observers`.

    `loaded` may be replaced while requests are answered: each request reads it once.
    """

    def __init__(self, loaded: LoadedModel, settings: Serve) -> None:
        self.loaded = loaded
        self.observers: list[RankingObserver] = []
        self.clock = time.time  # s since 1970: as of when the features of a request are
        self.max_age = None if settings.outdated_hours is None else settings.outdated_hours * 3600  # s

    def rank(self, request: RankRequest) -> RankingResult:
        """Rank the candidates by the objective of `request`, descending; ties stay in the order of the request."""
        result, candidates = self.rank_with(self.loaded, request)
        for observer in self.observers:
            observer.ranked(request, result, candidates)
        return result

    def warm_up(self, loaded: LoadedModel, requests: Sequence[RankRequest]) -> None:
        """Answer `requests` with `loaded` and drop the results, so that the first real request is not slow."""
        for request in requests:
            self.rank_with(loaded, request)

    def rank_with(
        self, loaded: LoadedModel, request: RankRequest, *, fallback: bool = True
    ) -> tuple[RankingResult, ScoredCandidates]:
        """The result of `loaded` for a request, and the candidates as it scored them; no observer sees it.

        Where the model fails the scores are fallback scores, or, without `fallback`, it raises UnavailableError.
        """
        clock = [time.perf_counter()]
        keys = {loaded.schema.user: request.user_id, loaded.schema.scenario: request.scenario}
        row, fault = loaded.users.row(keys)
        row = loaded.sessions.added_to(row, at := self.clock())
        candidates = select_candidates(loaded, request, row.values)
        clock.append(time.perf_counter())
        compared = loaded.sessions.compared(row, at, candidates.items[: len(candidates.item_index)])
        encoded = _encode(loaded, request, candidates, keys, row=row, compared=compared, fault=fault)
        clock.append(time.perf_counter())
        probabilities, failure = _score(loaded, encoded)  # [N, O]
        if failure and not fallback:
            raise UnavailableError(failure)
        clock.append(time.perf_counter())
        phases = zip((FEATURES, ENCODE, MODEL), pairwise(clock), strict=True)
        seconds = {phase: end - start for phase, (start, end) in phases}
        rates = failure and f"model: {failure}; the order is that of label rates"
        degraded = "; ".join(filter(None, (encoded.fault, rates))) or None
        explained = request.explain and failure is None  # fallback scores do not come from the network
        result = self._result(
            loaded, request, encoded, probabilities, degraded=degraded, seconds=seconds, explained=explained
        )
        return result, _scored(loaded, encoded, probabilities, at)

    def _result(
        self,
        loaded: LoadedModel,
        request: RankRequest,
        encoded: EncodedRequest,
        probabilities: Floats,
        *,
        degraded: str | None,
        seconds: dict[str, float],
        explained: bool,
    ) -> RankingResult:
        """The best of the candidates, from the probabilities [N, O] of all of them; `explained`: explain it."""
        outputs, candidates = loaded.schema.output_names, encoded.candidates
        scores, order, limited = _order(loaded, request, candidates, probabilities)
        item_index = candidates.item_index[order]
        items = [candidates.items[index] for index in order.tolist()]
        return RankingResult(
            items=items,
            scores=scores[order],
            probabilities=dict(zip(outputs, probabilities[order].T, strict=True)),
            model=loaded.model.tag,
            data_date=loaded.catalogue.as_of,
            considered=len(candidates.item_index),
            unknown_user=encoded.known is False,
            unknown_items=[items[index] for index in np.flatnonzero(loaded.catalogue.unknown[item_index]).tolist()],
            outdated=self._outdated(loaded, encoded.row, candidates.item_index),
            degraded=degraded,
            seconds=seconds,
            explanation=_explain(loaded, encoded, order) if explained and items else None,
            unknown_columns=_unknown_columns(loaded, encoded, order, item_index),
            untrained_scenario=not loaded.unknown.trained[encoded.user.scenario[0]],
            regressed=loaded.schema.regressed,
            diversified=limited,
        )

    def _outdated(self, loaded: LoadedModel, row: UserRow, item_index: ItemIndex) -> dict[str, int]:
        """By view, how many of the rows that were read are older than `max_age`."""
        if self.max_age is None:
            return {}
        since = int(time.time() - self.max_age)
        outdated = {view: 1 for view, timestamp in row.timestamps.items() if timestamp < since}
        timestamps = loaded.catalogue.timestamps[item_index]
        items = int(np.count_nonzero((timestamps > 0) & (timestamps < since)))
        return outdated | ({loaded.catalogue.view: items} if items else {})


def open_ranker(sources: ModelSources, settings: Serve) -> Ranker:
    """A ranker with the model and the features of `sources`; raises ModelError and SnapshotError.

    Sets this process to one torch thread: a request is too small for two, which would compete with other processes.
    """
    torch.set_num_threads(1)
    return Ranker(load_model(sources, settings), settings)


def _encode(
    loaded: LoadedModel,
    request: RankRequest,
    candidates: Candidates,
    keys: Mapping[str, Any],
    *,
    row: UserRow,
    compared: Mapping[str, NDArray[np.int64]],
    fault: str | None,
) -> EncodedRequest:
    overrides = request.overrides.get("user", {})
    undated = {newest_day(name): None for name in overrides}  # the store's day is not that of an overridden sequence
    values = {**request.context, **row.values, **keys, **undated, **overrides}
    user = loaded.encoder.encode(values, loaded.schema.scenarios.index(request.scenario))
    known = _is_known_user(loaded, user)
    if known and not fault and not row.timestamps and loaded.users.views:
        fault = "online store: it holds nothing of a user whom the model knows; was it emptied?"
    rows = loaded.encode_overridden(candidates.items, candidates.item_index, candidates.overrides)
    pairs = encoded_pairs(loaded.model.encoder, compared)
    return EncodedRequest(candidates, row, keys, values, user, rows, compared, pairs, known, fault)


def _is_known_user(loaded: LoadedModel, user: Batch) -> bool | None:
    """Whether the user's id has an embedding of its own; None if the model reads no user ids."""
    encoder = loaded.model.encoder
    names = [column.name for column in encoder.columns if column.kind is Kind.CATEGORICAL]
    if loaded.schema.user not in names:
        return None
    return bool(encoder.without_hashed(user).categorical[0, names.index(loaded.schema.user)] != UNKNOWN)


def _score(loaded: LoadedModel, encoded: EncodedRequest) -> tuple[Floats, str | None]:
    """Probabilities [N, O], and why they are label rates (None if they are the model's)."""
    item_index = encoded.candidates.item_index
    try:
        probabilities = loaded.scorer.score(encoded.user, item_index, encoded.rows, encoded.pairs)
        if np.isfinite(probabilities).all():
            return probabilities, None
        reason = "its answer is not finite"
    except Exception as error:  # whatever it is: an answer without the model is better than none
        _LOGGER.exception("the model %s could not answer", loaded.model.tag)
        reason = type(error).__name__
    rates = loaded.fallback.score(int(encoded.user.scenario[0]), item_index)
    return rates, reason


def _order(
    loaded: LoadedModel, request: RankRequest, candidates: Candidates, probabilities: Floats
) -> tuple[NDArray[np.float64], NDArray[np.int64], int | None]:
    """Scores [N] by the objective of a request, the indices of its best k, and how many ranks keep its limit, if any.

    The order is descending by score, but for what the request diversifies.
    """
    scores = probabilities @ np.array([request.objective.get(name, 0.0) for name in loaded.schema.output_names])
    order = np.argsort(-scores, kind="stable")
    limited, wanted = None, request.diversify
    if wanted is not None:
        codes = candidates.codes(loaded.catalogue, wanted["by"])
        first = min(wanted.get("first") or len(order), request.k or len(order))
        order, limited = diversified(order, codes, most=wanted["most"], first=first)
    return scores, order[: request.k], limited


def _explain(loaded: LoadedModel, encoded: EncodedRequest, order: NDArray[np.int64]) -> Explanation:
    overridden = _take(encoded.rows, order)
    pairs = None if encoded.pairs is None else encoded.pairs[order]
    rows = loaded.scorer.join_rows(encoded.user, encoded.candidates.item_index[order], overridden, pairs)
    return explain(loaded.model, rows, loaded.missing_row(int(encoded.user.scenario[0])))


def _unknown_columns(
    loaded: LoadedModel, encoded: EncodedRequest, order: NDArray[np.int64], item_index: ItemIndex
) -> list[str]:
    """The columns of the user and of the best items, those with `item_index`, in which a value is unknown."""
    given, rows, overrides = encoded.candidates.overrides, None, dict[str, list[Any]]()
    if encoded.rows is not None:
        rows = _take(encoded.rows, order)
        overrides = {name: [values[index] for index in order.tolist()] for name, values in given.items()}
    return loaded.unknown.columns(encoded.user, encoded.values, item_index, rows=rows, overrides=overrides)


def _take(rows: Batch | None, order: NDArray[np.int64]) -> Batch | None:
    if rows is None:
        return None
    return Batch(rows.categorical[order], rows.bags[order], rows.numeric[order], rows.scenario[order])


def _scored(loaded: LoadedModel, encoded: EncodedRequest, probabilities: Floats, at: float) -> ScoredCandidates:
    item_index, overrides = encoded.candidates.item_index, encoded.candidates.overrides
    items = list(encoded.candidates.items)[: len(item_index)]

    def rows() -> pa.Table:
        of_items = loaded.item_rows(items, item_index, overrides)
        for name, counts in encoded.compared.items():
            of_items = of_items.append_column(name, pa.array(counts))
        return loaded.impression_rows(encoded.values, of_items)

    return ScoredCandidates(
        rows=rows,
        keys={**encoded.keys, loaded.schema.item: items},
        outputs=loaded.schema.output_names,
        probabilities=probabilities,
        model=loaded.model.tag,
        served_at=EPOCH + timedelta(microseconds=round(at * SECOND)),  # to the digit as the sessions have it
    )
