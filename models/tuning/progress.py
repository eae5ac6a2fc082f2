"""The progress of a search on stderr: trials, the best one, the current epoch, and the time that is left."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm


class Progress:
    """A bar over the trials of a study; tqdm estimates the time left from those that are done."""

    def __init__(self, name: str, total: int, done: int, ends: float | None = None) -> None:
        """Show the bar.

        Args:
            name: stands before it.
            total: the number of trials.
            done: those that are finished already.
            ends: when the time budget is over, by time.monotonic(); None: there is none.
        """
        self._bar = tqdm(
            total=total,
            initial=min(done, total),
            desc=name,
            unit=" trial",
            miniters=0,
            smoothing=0,  # else it measures from one epoch to the next
            dynamic_ncols=True,
        )
        self._ends, self._shown = ends, {"best": "-"}

    def epoch(self, trial: int, number: int, mean: float) -> None:
        """Show the epoch that a trial has finished."""
        self._shown |= {"trial": str(trial), "epoch": f"{number}: {mean:.4f}"}
        self._show()

    def trials(self, finished: Sequence[FrozenTrial]) -> None:
        """Show the trials that are finished, by this process or another one."""
        values = [trial.value for trial in finished if trial.state == TrialState.COMPLETE and trial.value is not None]
        self._shown["best"] = f"{max(values):.4f}" if values else "-"
        self._bar.update(max(0, min(len(finished), self._bar.total) - self._bar.n))
        self._show()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _show(self) -> None:
        if self._ends is not None:
            left = max(0.0, self._ends - time.monotonic())
            self._shown["budget_left"] = tqdm.format_interval(left)
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(0)  # at most ten times a second


def observing(progress: Progress, trial: optuna.Trial, *, prune: bool) -> Callable[[int, float], None]:
    """A report for `Fitting.fit` that shows each epoch, and ends the training of a trial that the pruner gives up."""

    def report(number: int, mean: float) -> None:
        progress.epoch(trial.number, number, mean)
        if prune:
            trial.report(mean, number)
            if trial.should_prune():
                raise optuna.TrialPruned

    return report


def time_of(trials: Sequence[Any]) -> float:
    """Mean seconds of the complete trials; 0 where there is none."""
    seconds = [trial.duration.total_seconds() for trial in trials if trial.state == TrialState.COMPLETE]
    return sum(seconds) / len(seconds) if seconds else 0.0
