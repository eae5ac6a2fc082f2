"""Run the trials of a plan, each exactly once, however many processes share the study.

A process claims a trial by creating it: its number is unique. It then looks at the trials with lower numbers. If the
plan needs no further one, the trial is surplus and marked as failed. Failed trials do not count.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from models.tuning.storage import restart_killed

Objective = Callable[[optuna.Trial], float]
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
POLL_SECONDS = 1.0  # while other processes run the last trials


class SurplusTrialError(Exception):
    """Two processes claimed the same trial: this one is not run."""


class Plan(Protocol):
    """Which trials a study needs."""

    def queue(self, study: optuna.Study) -> None:
        """Queue the trials whose values are known."""

    def left(self, trials: Sequence[FrozenTrial]) -> int:
        """The number of trials that are needed beyond these, which have not failed."""

    def is_surplus(self, trial: FrozenTrial, earlier: Sequence[FrozenTrial]) -> bool:
        """Whether the earlier trials, which have not failed, make this one superfluous."""


class SampledTrials:
    """A number of trials whose values the sampler draws."""

    def __init__(self, count: int) -> None:
        self.count = count

    def queue(self, study: optuna.Study) -> None:
        """Nothing: the sampler draws when a trial starts."""

    def left(self, trials: Sequence[FrozenTrial]) -> int:
        """The count without these."""
        return max(0, self.count - len(trials))

    def is_surplus(self, trial: FrozenTrial, earlier: Sequence[FrozenTrial]) -> bool:
        """Whether there are enough."""
        return len(earlier) >= self.count


class ListedTrials:
    """A trial for each of some plain data, which it has as its user attributes."""

    def __init__(self, listed: Sequence[Mapping[str, Any]]) -> None:
        self.listed = listed

    def queue(self, study: optuna.Study) -> None:
        """Queue those that no trial has."""
        known = [trial.user_attrs for trial in not_failed(study)]
        for attributes in self.listed:
            if attributes not in known:
                study.enqueue_trial({}, user_attrs=dict(attributes))

    def left(self, trials: Sequence[FrozenTrial]) -> int:
        """Those that none of these has."""
        known = [trial.user_attrs for trial in trials]
        return sum(attributes not in known for attributes in self.listed)

    def is_surplus(self, trial: FrozenTrial, earlier: Sequence[FrozenTrial]) -> bool:
        """Whether it is not listed, or an earlier one has the same data."""
        return trial.user_attrs not in self.listed or any(trial.user_attrs == one.user_attrs for one in earlier)


def run_plan(
    study: optuna.Study,
    storage: RDBStorage,
    plan: Plan,
    objective: Objective,
    *,
    sampler: Callable[[int], BaseSampler] | None = None,
    over: Callable[[], bool] = lambda: False,
) -> None:
    """Run trials until the plan is fulfilled, by this process and others, or the budget is over.

    Args:
        study: where the trials are recorded.
        storage: the storage of the study.
        plan: the trials that are needed.
        objective: runs one trial, and returns the value that is maximised.
        sampler: the sampler of the next trial, by the number of those that the study has; None: that of the study.
        over: whether this process starts no further trial.
    """
    restart_killed(study, storage)
    plan.queue(study)
    while plan.left(finished(study)) and not over():
        claimed = not_failed(study)
        if plan.left(claimed) or any(trial.state == TrialState.WAITING for trial in claimed):
            if sampler is not None:
                study.sampler = sampler(len(study.get_trials(deepcopy=False)))
            _run_trial(study, plan, objective)
            plan.queue(study)
        else:
            time.sleep(POLL_SECONDS)
            if storage.get_heartbeat_interval() is not None:
                restart_killed(study, storage)


def _run_trial(study: optuna.Study, plan: Plan, objective: Objective) -> None:
    """Run one trial. If another process took it over, because this one gave no sign for long, its result is dropped."""
    try:
        study.optimize(_unless_surplus(plan, objective), n_trials=1, catch=(SurplusTrialError,))
    except ValueError as error:
        if not str(error).endswith(f"a {TrialState.FAIL.name} trial."):  # Optuna has no class for it
            raise


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a result, in the order of their numbers."""
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False, states=FINISHED)
    return trials


def not_failed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a result, run or wait."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]


def _unless_surplus(plan: Plan, objective: Objective) -> Objective:
    def run(trial: optuna.Trial) -> float:
        earlier = [one for one in not_failed(trial.study) if one.number < trial.number]
        if plan.is_surplus(trial.study.get_trials(deepcopy=False)[trial.number], earlier):
            raise SurplusTrialError
        return objective(trial)

    return run
