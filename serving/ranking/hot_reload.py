"""A new model or a new snapshot is taken into use while requests are answered, or not at all.

A thread looks at the files every few seconds: the model folder (which may be a link that is exchanged by a rename, such
as the champion of the releases) and the item snapshot. Of what has changed it makes a whole new state beside the one in
use: model verified by sha256, items encoded, shares made, and warmed by requests that were answered lately. Then one
reference is exchanged. What is damaged is told and left alone until it changes again: the state in use serves on.
"""

import logging
import threading
import time

import torch

from common.errors import PipelineError
from common.params import Serve
from serving.ranking.loaded_model import Sources, State, open_state
from serving.ranking.ranker import Ranker

_LOGGER = logging.getLogger(__name__)


class Reloader:
    """Keeps the state of `ranker` up to what lies in `sources`; `reloads` and `failures` count.

    `fault` says why what lies there is not in use; None where it is.
    """

    def __init__(self, ranker: Ranker, sources: Sources, settings: Serve) -> None:
        self.ranker, self.sources, self.settings = ranker, sources, settings
        self.reloads = self.failures = 0
        self.fault: str | None = None
        self._tried = ranker.state.stamp[:2]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Look every `reload_seconds`, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def look(self) -> bool:
        """Whether something else lies there than at the last look and is in use now."""
        stamp = self.sources.stamp()[:2]  # not the store: a file that is being filled is no store yet
        if stamp == self._tried:
            return False
        self._tried = stamp
        started = time.perf_counter()
        try:
            state = open_state(self.sources, self.settings, before=self.ranker.state)
            self.ranker.warm(state)
        except (PipelineError, OSError) as error:
            return self._refuse(str(error))
        except Exception as error:  # a thread that dies would never look again
            _LOGGER.exception("what lies in %s could not be opened", self.sources.model)
            return self._refuse(f"{type(error).__name__}: {error}")
        self._take(state, time.perf_counter() - started)
        return True

    def _refuse(self, reason: str) -> bool:
        self.failures, self.fault = self.failures + 1, reason
        _LOGGER.warning("not taken into use, model %s serves on: %s", self.ranker.state.model.tag, reason)
        return False

    def _take(self, state: State, seconds: float) -> None:
        self.ranker.state = state
        self.reloads, self.fault = self.reloads + 1, None
        moment = f"{state.catalogue.moment:%Y-%m-%d %H:%M}"
        _LOGGER.info("in use: model %s, items as of %s UTC, after %.1f s", state.model.tag, moment, seconds)

    def _run(self) -> None:
        torch.set_num_threads(1)  # each thread has a number of its own
        while not self._stop.wait(self.settings.reload_seconds):
            try:
                self.look()
            except Exception:  # files that come and go while they are looked at
                _LOGGER.exception("the files of model and snapshot could not be looked at")
