"""Concordance of labels and scores: the share of pairs of rows with different labels that the scores order alike.

Of labels of 0 and 1 it is the AUC. Of numbers it is known as XAUC (R. Zhan et al., Deconfounding Duration Bias in
Watch-time Prediction for Video Recommendation, KDD 2022) and as the c-index (F. Harrell et al., JAMA 247, 1982). Here
every pair counts, once, as the product of the weights of its rows; a tie of scores is half an agreement. 0.5 is chance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Concordance:
    """The share, and the contribution of each row to its error [N], whose squares sum to the variance of the share.

    A share of pairs is a U-statistic: the contributions are its projection on the rows (W. Hoeffding, Ann. Math. Stat.
    19, 1948), which are DeLong's for labels of 0 and 1. Two scores of the same rows are compared by the differences.
    """

    value: float
    influence: Floats


def concordance(labels: Array, scores: Array, weight: Array | None = None) -> Concordance | None:
    """The concordance of labels [N] and scores [N], of rows with weights [N] (1); None without a pair that counts."""
    mass = np.ones(len(labels)) if weight is None else np.asarray(weight, np.float64)
    if len(np.unique(np.asarray(labels)[mass > 0])) < 2:  # not by the sum below, in which rounding leaves a rest
        return None
    label, score = (np.unique(values, return_inverse=True)[1] for values in (labels, scores))
    pairs = mass.sum() - np.bincount(label, weights=mass)[label]  # of other labels, by row
    total = mass @ pairs / 2
    won = _agreeing(label, score, mass)
    value = float(mass @ won / 2 / total)
    rows = mass.sum() ** 2 / (mass @ mass)  # of equal weight
    correction = np.sqrt(rows / (rows - 1)) if rows > 1 else 1.0
    return Concordance(value=value, influence=correction * mass * (won - value * pairs) / total)


def _agreeing(label: NDArray[np.int64], score: NDArray[np.int64], mass: Floats) -> Floats:
    """The mass of the rows that each row [N] is ordered with as their labels are, ties of scores half.

    label and score are ranks from 0. Two labels differ first in one of their bits, from the highest down: at this bit
    the rows form groups of equal higher bits, and in a group those with the bit are above those without. So each pair
    is met once, and a bit costs a sort: N log N x bits in all.
    """
    won, scores = np.zeros(len(label)), int(score.max()) + 1
    for bit in range(int(label.max()).bit_length()):
        key = (label >> (bit + 1)) * scores + score
        above = (label >> bit & 1) == 1
        for own, sign in ((above, 1), (~above, -1)):
            won[own] += _beaten(key[own], key[~own], mass[~own], scores, sign)
    return won


def _beaten(key: NDArray[np.int64], others: NDArray[np.int64], mass: Floats, scores: int, sign: int) -> Floats:
    """The mass of the others of the same group with a lower score (sign 1) or a higher one (-1), equal ones half.

    A key is group x scores + score.
    """
    order = np.argsort(others, kind="stable")
    sums, others = np.concatenate([[0.0], np.cumsum(mass[order])]), others[order]
    first = sums[np.searchsorted(others, key - key % scores)]
    last = sums[np.searchsorted(others, key - key % scores + scores)]
    below, upto = (sums[np.searchsorted(others, key, side)] for side in ("left", "right"))
    outside = below - first if sign == 1 else last - upto
    beaten: Floats = outside + (upto - below) / 2
    return beaten
