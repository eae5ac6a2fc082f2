"""The finalists of a search: the best trials and params.yaml as it is, trained again with several seeds.

The best of many trials is partly lucky. The finalists are trained with seeds that no trial had, and the values of
params.yaml are replaced only where the gain is larger than its standard error.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from models.tuning.parameters import Values

VALUES, SEED, CURRENT = "values", "seed", "params.yaml"
DIVERGED = 0.0  # the mean of a training that could not go on: below every metric


@dataclass(frozen=True)
class Finalist:
    """Values of parameters, and the validation mean of a training with each seed."""

    name: str
    values: Values
    means: Sequence[float] = ()

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.means)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds; None of a single one."""
        return statistics.stdev(self.means) if len(self.means) > 1 else None

    @property
    def label(self) -> str:
        """Name, mean and spread as text."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.4f}"
        return f"{self.name}: {self.mean:.4f}{spread}"


def finalists_of(study: optuna.Study, current: Values, count: int) -> list[Finalist]:
    """The values of params.yaml, then those of the `count` best complete trials; equal ones stand there once."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    complete.sort(key=lambda trial: (-(trial.value or 0.0), trial.number))
    finalists = [Finalist(CURRENT, current)]
    for trial in complete:
        values = trial.user_attrs[VALUES]
        if len(finalists) <= count and values not in [finalist.values for finalist in finalists]:
            finalists.append(Finalist(f"trial {trial.number}", values))
    return finalists


def trainings_of(finalists: Sequence[Finalist], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The user attributes of the trial of each finalist and seed, seed by seed."""
    return [{VALUES: dict(finalist.values), SEED: seed} for seed in seeds for finalist in finalists]


def with_means(study: optuna.Study, finalists: Sequence[Finalist], seeds: Sequence[int]) -> list[Finalist]:
    """The finalists with the results that the study has of their trainings."""
    results = [
        (trial.user_attrs, trial.value) for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]

    def means(values: Values) -> tuple[float, ...]:
        wanted = [{VALUES: dict(values), SEED: seed} for seed in seeds]
        return tuple(next(mean for attributes, mean in results if attributes == one) or 0.0 for one in wanted)

    return [Finalist(finalist.name, finalist.values, means(finalist.values)) for finalist in finalists]


def choose(finalists: Sequence[Finalist]) -> Finalist:
    """The finalist with the best mean; the first, params.yaml, unless the gain exceeds its standard error."""
    current, best = finalists[0], max(finalists, key=lambda finalist: finalist.mean)
    variances = [(finalist.deviation or 0.0) ** 2 / len(finalist.means) for finalist in (current, best)]
    return best if best.mean - current.mean > math.sqrt(sum(variances)) else current


def changes(finalist: Finalist, current: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a finalist that differ from those of params.yaml."""
    return {name: value for name, value in finalist.values.items() if value != current[name]}
