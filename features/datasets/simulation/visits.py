"""Visits: with `session_effect` a user's impressions of a day follow each other, and each depends on those before.

What was just clicked raises the interest in the same cuisine, and what was just shown without a click lowers it. The
true probabilities are those given what happened before in the visit.
"""

import dataclasses

import numpy as np

from features.datasets.simulation.clock import DAY, Integers
from features.datasets.simulation.design import CUISINES, FATIGUE, FATIGUE_SHOWN, INTEREST, VISIT_GAP_SECONDS
from features.datasets.simulation.platform import Impressions, Platform
from features.datasets.simulation.population import Floats


def gathered(random: np.random.Generator, shown: Impressions, midnight: int) -> Impressions:
    """The impressions of a day with other timestamps: those of a user follow the last one, some seconds apart."""
    order, position = _visits(shown)
    gaps = np.rint(1e6 * random.exponential(VISIT_GAP_SECONDS, len(order))).astype(np.int64)
    starts = np.flatnonzero(position == 0)
    visit = np.cumsum(position == 0) - 1  # the number of the visit of each row, in order
    passed = np.cumsum(gaps) - np.cumsum(gaps)[starts][visit]
    last = np.maximum.reduceat(shown.timestamp[order], starts)[visit]
    timestamp = np.empty_like(shown.timestamp)
    timestamp[order] = np.minimum(last + passed, midnight + DAY - 1)
    return dataclasses.replace(shown, timestamp=timestamp)


def visit_effects(platform: Platform, shown: Impressions, logit: Floats, drawn: Floats, strength: float) -> Floats:
    """What the visits add to the logit of each click [N], where clicks are drawn by the uniform numbers `drawn` [N].

    The impressions at the same position of all visits are computed at once, one position after the other.
    """
    order, position = _visits(shown)
    cuisine = platform.items.cuisine
    users = shown.user.max(initial=0) + 1
    clicked, ignored = (np.zeros((users, len(CUISINES))) for _ in range(2))
    effects = np.zeros(len(order))
    for step in range(position.max(initial=-1) + 1):
        rows = order[position == step]
        where = shown.user[rows], cuisine[shown.item[rows]]
        effects[rows] = strength * (
            INTEREST * (clicked[where] > 0) - FATIGUE * np.minimum(ignored[where], FATIGUE_SHOWN)
        )
        clicks = drawn[rows] < 1 / (1 + np.exp(-logit[rows] - effects[rows]))
        clicked[where] += clicks
        ignored[where] += ~clicks
    return effects


def _visits(shown: Impressions) -> tuple[Integers, Integers]:
    """The rows [N] by user and timestamp, and for each of these its position in the visit of its user, from 0."""
    order = np.lexsort((shown.timestamp, shown.user))
    user = shown.user[order]
    position: Integers = np.arange(len(order)) - np.searchsorted(user, user)
    return order, position
