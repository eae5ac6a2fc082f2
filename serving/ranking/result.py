"""The result of a ranking in plain Python and NumPy: what the ranker gives to HTTP, logs and metrics.

Letters: N ranked items (the request's k, or all candidates), C candidates after the filters, O outputs of the model,
M scenarios, K sub-experts of each of G and S_1..S_M, R = P + Q experts that a task reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.ranking.request import RankRequest

if TYPE_CHECKING:  # the process that only watches the workers reads this module, too
    import pyarrow as pa

Floats = NDArray[np.float64]
Replaced = Literal["failed", "late"]
FEATURES, ENCODE, MODEL = "features", "encode", "model"  # the phases of a ranking, in order


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the scores of the ranked items come from; lists are parallel to RankingResult.items.

    `scenario_gates` [N, 1 + M, K]: weights of the sub-experts, first of G, then of each S_m. `attention` [M]: weight
    of each scenario for the scenario of the request. `task_gates` [N, R] by task: weights of its experts, its own
    first, then the shared ones. None where the network has no such part.
    `contributions` [N] by feature group, then by output: the logit minus the logit with the columns of the group
    missing (ids unknown) and everything else unchanged (leave one group out).
    """

    scenario_gates: Floats | None
    attention: Floats | None
    task_gates: dict[str, Floats] | None
    contributions: dict[str, dict[str, Floats]]


@dataclass(frozen=True, kw_only=True)
class RankingResult:
    """Items, best first, with scores, probabilities and what the caller has to know about their quality.

    `data_date` is the timestamp (UTC) up to which the features are, None if unknown. `considered` counts the
    candidates after the filters. `unknown_items` are those of `items` without an embedding of their own. `outdated`
    counts by view the rows that were read and are older than serve.outdated_hours. `degraded` is the reason why
    features or model could not be used in full, None if they were. `seconds` are by phase. Without items there is no
    explanation, nor with fallback scores. `unknown_columns` have a value, of the user or of one of `items`, that no
    training row had (or too few to count); `untrained_scenario`: no training row is of the scenario of the request.
    `diversified` counts the ranks, from the first, that keep the limit of a request with one. `arm` is that of the user
    in an A/B test, None without one; `replaced`: why the champion answered in place of the challenger, if it did.
    """

    items: list[Any]
    scores: Floats  # [N]
    probabilities: dict[str, Floats]  # [N] by task, or task=class; of a task in `regressed` the expected value
    model: str
    data_date: datetime | None
    considered: int
    unknown_user: bool
    unknown_items: list[Any]
    outdated: dict[str, int] = field(default_factory=dict)
    degraded: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    explanation: Explanation | None = None
    unknown_columns: list[str] = field(default_factory=list)
    untrained_scenario: bool = False
    regressed: Sequence[str] = ()
    diversified: int | None = None
    arm: str | None = None
    replaced: Replaced | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredCandidates:
    """All candidates of an answered request, in the order of the request, as the model saw and scored them.

    `rows` makes the feature rows [C] by column name: an observer calls it only if it keeps the request. `keys` are
    user, scenario and items by column name, `outputs` the names of the probabilities. `served_at` is the time (UTC,
    without a zone) as of which the features of the user are; None: unknown.
    """

    rows: "Callable[[], pa.Table]"
    keys: dict[str, Any]
    outputs: Sequence[str]
    probabilities: Floats  # [C, O]
    model: str
    served_at: datetime | None = None


class RankingObserver(Protocol):
    """Receives every ranking of a service: impression log, shadow model, metrics, traces, recent requests."""

    def ranked(self, request: RankRequest, result: RankingResult, candidates: ScoredCandidates) -> None:
        """Take note of an answered request; returns at once and raises nothing."""
        ...
