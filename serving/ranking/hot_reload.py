"""Hot reload: a new model or snapshot replaces the one in use between two requests, or not at all.

A thread checks the files every few seconds: the model folder (which may be a link that a release replaces, such as the
champion's) and the item snapshot. After a change it loads a complete new model: verified by sha256, items encoded,
partial activations computed, and warmed up by recent requests. Then one reference is replaced. Damaged files are
reported once and ignored until they change again; the model in use keeps serving. So it does after a release on another
schema, from the online store of its own release: the one in use will become that of the new schema.
"""

import dataclasses
import logging
import threading
import time
from collections import deque

import torch

from common.errors import PipelineError
from common.serve_params import Serve
from serving.ranking.followers import Follower
from serving.ranking.loaded_model import LoadedModel, OtherSchemaError, load_model
from serving.ranking.model_sources import ModelSources, released_store
from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult, ScoredCandidates

RECENT, EVERY = 32, 16  # requests that warm up a new model: the last RECENT of every EVERY-th
MAX_KEPT = 2**16  # bytes of a request that is kept
_LOGGER = logging.getLogger(__name__)


class RecentRequests:
    """A ranking observer that keeps every EVERY-th request, the last RECENT of them."""

    def __init__(self) -> None:
        self.requests: deque[RankRequest] = deque(maxlen=RECENT)
        self._answered = 0

    def ranked(self, request: RankRequest, _: RankingResult, __: ScoredCandidates) -> None:
        """Keep the request if it is its turn and not large."""
        if self._answered % EVERY == 0 and request.size <= MAX_KEPT:
            self.requests.append(request)
        self._answered += 1


class Reloader:
    """Replaces the model of `ranker` when the files at `sources` change; `reloads` and `failures` are counted.

    `error` is the reason why the newest files are not in use; None if they are.
    """

    def __init__(self, ranker: Ranker, sources: ModelSources, settings: Serve) -> None:
        self.ranker, self.sources, self.settings = ranker, sources, settings
        self.reloads = self.failures = 0
        self.error: str | None = None
        self.recent = RecentRequests()
        ranker.observers.append(self.recent)
        self.follower = Follower.of(sources.model, ranker.loaded.sources.model, settings.reload_seconds)
        self._checked = ranker.loaded.stamps[:2]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Check every `reload_seconds`, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop checking; a load that is under way is abandoned after a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1)
        if self.follower is not None:
            self.follower.close()

    def check(self) -> bool:
        """Load what changed since the last check; returns whether a new model is in use now.

        A change of the online store alone is ignored: a store that is being filled is incomplete, and whoever makes
        one from nothing writes the snapshot last.
        """
        stamps = self.sources.stamps()[:2]
        if stamps == self._checked:
            return False
        self._checked = stamps
        started = time.perf_counter()
        try:
            loaded = load_model(self.sources, self.settings, previous=self.ranker.loaded)
            self.ranker.warm_up(loaded, list(self.recent.requests))
        except OtherSchemaError as error:
            self._use_released_store()
            return self._reject(str(error))
        except (PipelineError, OSError) as error:
            return self._reject(str(error))
        except Exception as error:  # otherwise the thread would end and never check again
            _LOGGER.exception("the files in %s could not be loaded", self.sources.model)
            return self._reject(f"{type(error).__name__}: {error}")
        self._replace(loaded, time.perf_counter() - started)
        return True

    def _reject(self, reason: str) -> bool:
        self.failures, self.error = self.failures + 1, reason
        _LOGGER.warning("not taken into use, model %s serves on: %s", self.ranker.loaded.model.tag, reason)
        if self.follower is not None:
            self.follower.refused(self.sources.model.resolve(), reason)
        return False

    def _use_released_store(self) -> None:
        """Read from now on the store of the release of the model in use: the one in use may be filled anew."""
        loaded = self.ranker.loaded
        online = released_store(loaded.sources.model)
        if online is None or online == loaded.sources.online:
            return
        sources = dataclasses.replace(loaded.sources, online=online, redis=None)
        try:
            self.ranker.loaded = load_model(sources, self.settings, previous=loaded)
        except (PipelineError, OSError) as error:
            _LOGGER.warning("the online store of the release cannot be used: %s", error)

    def _replace(self, loaded: LoadedModel, seconds: float) -> None:
        self.ranker.loaded = loaded
        self.reloads, self.error = self.reloads + 1, None
        if self.follower is not None:
            self.follower.took(loaded.sources.model)
        as_of = f"{loaded.catalogue.as_of:%Y-%m-%d %H:%M}"
        _LOGGER.info("in use: model %s, items as of %s UTC, after %.1f s", loaded.model.tag, as_of, seconds)

    def _run(self) -> None:
        torch.set_num_threads(1)  # torch keeps a number per thread
        while not self._stop.wait(self.settings.reload_seconds):
            try:
                self.check()
            except Exception:  # a file may disappear while it is checked
                _LOGGER.exception("the files of model and snapshot could not be checked")
