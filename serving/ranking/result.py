"""What a ranker says of one request, in plain Python and NumPy: the border between ranking and HTTP.

Letters: N ranked items (k of the request, or all that were considered), O outputs of the model, M scenarios, K
sub-experts of each of G and S_1..S_M, R = P + Q experts that a task reads.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEATURES, ENCODE, MODEL = "features", "encode", "model"  # the phases of a request, in order


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why the items stand where they stand; lists run in parallel to Ranked.items.

    `scenario_gates` [N, 1 + M, K]: weights of the sub-experts, first those of G, then of each S_m. `attention` [M]:
    how much the scenario of the request listens to each one. `task_gates` [N, R] by task: weights of its experts,
    its own first, then the shared ones. None where the network has no such part.
    `contributions` [N] by group of features, then by output: the logit less what it is when the columns of the group
    are missing (ids unknown) and everything else stays: leave one group out.
    """

    scenario_gates: Floats | None
    attention: Floats | None
    task_gates: dict[str, Floats] | None
    contributions: dict[str, dict[str, Floats]]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Items, best first, and what their order comes from.

    `data_date` is the moment (UTC) up to which the features are, None where nobody knows. `stale` counts by view the
    rows that were read and are older than serve.stale_hours. `degraded` is the reason why the answer is not the whole
    truth: features that could not be read, a model that could not answer; None: it is. `seconds` are by phase.
    Where no item is left there is no explanation.
    """

    items: list[Any]
    scores: Floats  # [N]
    probabilities: dict[str, Floats]  # [N] by task, or task=class
    model: str
    data_date: datetime | None
    considered: int
    unknown_user: bool
    unknown_items: list[Any]  # of `items`, those that the trained unknown row serves
    stale: dict[str, int] = field(default_factory=dict)
    degraded: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    explanation: Explanation | None = None
