"""A search: trials until their number or the time is reached, then the finalists with several seeds."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import RDBStorage

from common.errors import TrainingError
from models.tuning.finalists import (
    DIVERGED,
    SEED,
    VALUES,
    Finalist,
    choose,
    finalists_of,
    trainings_of,
    with_means,
)
from models.tuning.fitting import DivergedError, Report
from models.tuning.parameters import Values
from models.tuning.progress import Progress, observing, time_of
from models.tuning.space import Space
from models.tuning.storage import open_study
from models.tuning.trials import ListedTrials, SampledTrials, finished, run_plan

Fit = Callable[[Values, int, Report], float]  # values, seed, report of the epochs -> validation mean
STARTUP_TRIALS = 10  # drawn at random before TPE draws, and before a trial is pruned
FIRST_PRUNED_EPOCH = 2
LARGEST_SHARE = 0.5  # of the time that is kept for the finalists


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How long a search is.

    `trials` is their number in all, `seconds` the time of this process (None: any), `finalists` the number of trials
    that are trained again, with `seeds` seeds each.
    """

    trials: int
    seconds: float | None = None
    finalists: int = 3
    seeds: int = 3


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The study of the trials, the finalists with params.yaml as the first, and the one that was chosen."""

    study: optuna.Study
    finalists: Sequence[Finalist]
    chosen: Finalist


def run_search(
    storage: RDBStorage, name: str, space: Space, fit: Fit, *, current: Values, seed: int, extent: Extent
) -> SearchResult:
    """Run what is left of the study called `name`; raises TrainingError where no trial could be trained.

    Args:
        storage: where trials and finalists are recorded.
        name: the name of the study; that of the finalists has `-finalists` behind it.
        space: the parameters and their values.
        fit: trains with values and seed, reports each epoch, and returns the validation mean.
        current: the values in params.yaml.
        seed: of every trial; the finalists have the next ones.
        extent: how long the search is.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial that stops the search raises
    start = time.monotonic()
    study, created = open_study(storage, name, _pruner())
    if created and (stored := space.stored(current)) is not None:
        study.enqueue_trial(stored)  # what is known to work is the first trial
    _run_trials(study, storage, space, fit, seed=seed, extent=extent, start=start)
    finalists = finalists_of(study, current, extent.finalists)
    if len(finalists) == 1 and not any(trial.value is not None for trial in finished(study)):
        raise TrainingError(f"no trial of {name} could be trained: {_last_error(study)}")
    finalists = _run_finalists(
        storage, f"{name}-finalists", finalists, fit, [seed + 1 + s for s in range(extent.seeds)]
    )
    return SearchResult(study=study, finalists=finalists, chosen=choose(finalists))


def _run_trials(
    study: optuna.Study, storage: RDBStorage, space: Space, fit: Fit, *, seed: int, extent: Extent, start: float
) -> None:
    ends = None if extent.seconds is None else start + extent.seconds
    progress = Progress(study.study_name, extent.trials, len(finished(study)), ends)
    process = 0 if storage.get_heartbeat_interval() is None else secrets.randbelow(2**31)  # others draw other values

    def objective(trial: optuna.Trial) -> float:
        values = space.suggest(trial)
        trial.set_user_attr(VALUES, values)
        try:
            return fit(values, seed, observing(progress, trial, prune=True))
        except DivergedError as error:
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from error

    def over() -> bool:
        """Whether the finalists need the rest of the time."""
        trials = finished(study)
        progress.trials(trials)
        if extent.seconds is None or not trials:
            return False
        finalists = (min(extent.finalists, len(trials)) + 1) * extent.seeds * time_of(trials)
        return time.monotonic() + min(finalists, extent.seconds * LARGEST_SHARE) > start + extent.seconds

    run_plan(
        study,
        storage,
        SampledTrials(extent.trials),
        objective,
        sampler=lambda number: sampler_of(seed + process + number),
        over=over,
    )
    progress.trials(finished(study))
    progress.close()


def _run_finalists(
    storage: RDBStorage, name: str, finalists: Sequence[Finalist], fit: Fit, seeds: Sequence[int]
) -> list[Finalist]:
    study, _ = open_study(storage, name, optuna.pruners.NopPruner())
    plan = ListedTrials(trainings_of(finalists, seeds))
    total = len(plan.listed)
    progress = Progress(name, total, total - plan.left(finished(study)))

    def objective(trial: optuna.Trial) -> float:
        try:
            attributes = trial.user_attrs
            return fit(attributes[VALUES], attributes[SEED], observing(progress, trial, prune=False))
        except DivergedError:
            return DIVERGED

    def show() -> bool:
        progress.trials([trial for trial in finished(study) if trial.user_attrs in plan.listed])
        return False

    run_plan(study, storage, plan, objective, over=show)
    show()
    progress.close()
    return with_means(study, finalists, seeds)


def sampler_of(seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial: its own seed, so that a search that goes on does not draw its first trials again."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def _pruner() -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=FIRST_PRUNED_EPOCH)


def _last_error(study: optuna.Study) -> Any:
    errors = [trial.user_attrs.get("error") for trial in finished(study)]
    return errors[-1] if errors else "none was started"
