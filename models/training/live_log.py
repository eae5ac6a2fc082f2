"""The curves of a training run while it runs, as DVCLive writes them: `dvc plots show` and `dvc exp show` read them.

They hold no time, and their rows follow from the state of the run alone: a run that resumes from a checkpoint writes
the same files as one that was not stopped, and DVC can keep them as an output.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from dvclive import Live
from scmrepo.exceptions import SCMError

from common.errors import TrainingError
from models.training.loop import Observer
from models.training.train_state import LossPoint, TrainState

SECONDS = 1.0  # between two writes within an epoch
DIGITS = 6


@contextmanager
def live_log(folder: Path | None) -> Iterator[Observer | None]:
    """The observer that writes the log of one run to `folder`; None where that is None."""
    if folder is None:
        yield None
        return
    with closing(LiveLog(folder)) as log:
        yield log.update


class LiveLog:
    """The log of one run in `folder`: metrics.json has the newest values, plots/metrics/*/*.tsv all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._live: Live | None = None
        self._losses, self._epochs, self._written = 0, 0, 0.0

    def update(self, state: TrainState) -> None:
        """Write what is new in the state: at once after an epoch, at most once a second within it."""
        if len(state.epochs) == self._epochs and time.monotonic() - self._written < SECONDS:
            return
        live = self._open()
        for point, loss in itertools.islice(window_losses(state.losses), self._losses, None):
            live.step = point.step
            live.log_metric("batches/train_loss", round(loss, DIGITS))
        for epoch in state.epochs[self._epochs :]:
            live.step = epoch.number
            live.log_metric("epoch/train_loss", round(epoch.train_loss, DIGITS))
            live.log_metric("epoch/valid_loss", round(epoch.valid_loss, DIGITS))
            live.log_metric("epoch/valid_mean_auc", round(epoch.valid_mean, DIGITS))
            live.next_step()
        live.step = len(state.epochs)
        live.make_summary()
        self._losses, self._epochs, self._written = len(state.losses), len(state.epochs), time.monotonic()

    def close(self) -> None:
        """End the log; nothing was written where `update` was never called."""
        if self._live is not None:
            self._live.end()

    def _open(self) -> Live:
        if self._live is None:
            self._live = _opened(self.folder)
            self._live.step = 0
            self._live.make_summary()  # "step" is the first key, whether the run starts or resumes
        return self._live


def window_losses(points: Sequence[LossPoint]) -> Iterator[tuple[LossPoint, float]]:
    """Each point, with the mean loss of the batches since the point before it in its epoch."""
    start = LossPoint(0, 0, 0.0)
    for before, point in itertools.pairwise([start, *points]):
        seen = before if before.batches < point.batches else start
        yield point, (point.mean * point.batches - seen.mean * seen.batches) / (point.batches - seen.batches)


def _opened(folder: Path) -> Live:
    """DVCLive's log in `folder`; raises TrainingError in a git repository without a commit, where DVCLive fails."""
    try:
        return Live(dir=str(folder), save_dvc_exp=False, report=None, dvcyaml=None)
    except SCMError as error:
        raise TrainingError(
            f"DVCLive cannot open its log {folder}: {error}. It notes the commit of the project: make a first one "
            "(`git add --all && git commit`), then train again"
        ) from error
