"""The A/B test: a challenger answers the users of its share, the model of the service (the champion) all others.

The challenger is loaded and reloaded as the champion is, from a folder of its own, in the same process, and reads the
same online store. Where it cannot be loaded or gives no answer in time, the champion answers in its place, and the
answer says so; after some failures in a row the challenger is tried in the background only
(serving/ranking/circuit_breaker.py).
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from common.serve_params import Serve, ServeAB
from serving.ranking.ab_split import CHALLENGER, CHAMPION, arm_of
from serving.ranking.circuit_breaker import CircuitBreaker, TooSlowError, UnavailableError
from serving.ranking.hot_reload import Reloader
from serving.ranking.loaded_model import LoadedModel
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult, Replaced, ScoredCandidates

_LOGGER = logging.getLogger(__name__)
Ranked = tuple[RankingResult, ScoredCandidates]


class Challenger:
    """The challenger of an A/B test, as far as it can be loaded from `sources`; `test` are share, salt and time limit.

    It has to have the schema of `champion`, for which the request type was made, and shares its access to the store
    where both read the same columns. It ranks in a thread of its own, which a request leaves after the time limit.
    """

    def __init__(self, champion: LoadedModel, sources: ModelSources, settings: Serve, test: ServeAB) -> None:
        self.test = test
        # Until the challenger is loaded there is the champion, as of no files: whatever there is, is a newer model.
        self.ranker = Ranker(dataclasses.replace(champion, stamps=((), (), champion.stamps[2])), settings)
        self.reloader = Reloader(self.ranker, sources, settings)
        try:
            self.reloader.check()
        except OSError as error:  # a folder that cannot be looked into
            self.reloader.error = str(error)
            _LOGGER.warning("the challenger is not in use, the champion answers in its place: %s", error)
        store = settings.store
        self._breaker = CircuitBreaker(
            self._rank, seconds=test.timeout_ms / 1e3, failures=store.failures, pause=store.pause_seconds, threads=1
        )

    @property
    def tag(self) -> str | None:
        """The tag of the challenger; None as long as it could not be loaded."""
        return self.ranker.loaded.model.tag if self.reloader.reloads else None

    def start(self, requests: Sequence[RankRequest]) -> None:
        """Warm up by `requests`, and take changed files into use from now on."""
        try:
            self.ranker.warm_up(self.ranker.loaded, requests)
        except Exception:  # whatever it is: the champion answers in its place
            _LOGGER.exception("the challenger %s cannot answer", self.tag)
        self.reloader.start()

    def rank(self, request: RankRequest) -> Ranked:
        """The result of the challenger; raises UnavailableError where there is none, TooSlowError if none in time."""
        if self.tag is None:
            raise UnavailableError("it is not loaded")
        return self._breaker(request)

    def close(self) -> None:
        """Load and try nothing more."""
        self._breaker.close()
        self.reloader.close()
        self.ranker.loaded.users.close()

    def _rank(self, request: RankRequest) -> Ranked:
        return self.ranker.rank_with(self.ranker.loaded, request, fallback=False)


class ABRanker:
    """Ranks as a Ranker does, for each user by the model of his arm; the observers are those of `champion`."""

    def __init__(self, champion: Ranker, challenger: Challenger) -> None:
        self.champion, self.challenger = champion, challenger

    def rank(self, request: RankRequest) -> RankingResult:
        """Rank the candidates; the result names the arm of the user, and the model that answered."""
        arm = arm_of(request.user_id, self.challenger.test.share, self.challenger.test.salt)
        result, candidates = self._answer(arm, request)
        result = dataclasses.replace(result, arm=arm)
        for observer in (*self.champion.observers, *self.challenger.ranker.observers):
            observer.ranked(request, result, candidates)
        return result

    def _answer(self, arm: str, request: RankRequest) -> Ranked:
        if arm == CHAMPION:
            return self.champion.rank_with(self.champion.loaded, request)
        try:
            return self.challenger.rank(request)
        except UnavailableError as error:
            result, candidates = self.champion.rank_with(self.champion.loaded, request)
            reason = f"{CHALLENGER}: {error}; the champion answers"
            degraded = f"{reason}; {result.degraded}" if result.degraded else reason
            replaced: Replaced = "late" if isinstance(error, TooSlowError) else "failed"
            return dataclasses.replace(result, degraded=degraded, replaced=replaced), candidates


def open_challenger(
    champion: Ranker, sources: ModelSources, settings: Serve, test: ServeAB, *, root: Path, registry: Path
) -> Challenger | None:
    """The challenger of `test`, beside a champion read from `sources`, or None; a relative folder is under `root`.

    `registry` is the file of its Feast registry.
    """
    if test.challenger is None:
        return None
    own = dataclasses.replace(sources, model=root / test.challenger, registry=registry)
    return Challenger(champion.loaded, own, settings, test)
