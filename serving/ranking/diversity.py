"""Diversification: at most some items of one value of a column in the first ranks of an answer, greedily by score.

Each of the first ranks gets the best item whose values are all below the limit; an item counts for each of its values,
one without a value is not limited. Where no such item is left, the remaining ranks are filled by score: the others
follow in their order.

Letters: N candidates, V values of one of them at most.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

CHUNK = 1024  # candidates that are looked at together
NONE = -1  # the code of no value

Codes = NDArray[np.int32]


def value_codes(column: pa.Array) -> Codes:
    """The values of a column or list column as codes [N, V]; NONE where there is none."""
    if not pa.types.is_list(column.type):
        return _codes(column)[:, None]  # [N, 1]
    owners = pc.list_parent_indices(column).to_numpy()  # the item of each value
    counts = np.bincount(owners, minlength=len(column))  # [N]
    numbers = np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]  # of each value among its item's
    codes = np.full((len(column), counts.max(initial=0)), NONE, np.int32)
    codes[owners, numbers] = _codes(column.flatten())
    return codes


def diversified(order: NDArray[np.int64], codes: Codes, *, most: int, first: int) -> tuple[NDArray[np.int64], int]:
    """The candidates in a new order [N], and how many of its first ranks keep the limit.

    Args:
        order: the candidates by score, best first [N].
        codes: the values of each candidate [N, V].
        most: how many items may have one value.
        first: in how many ranks.
    """
    chosen = np.array(_greedy(order, codes, most, first), np.int64)
    left = np.ones(len(order), np.bool_)
    left[chosen] = False
    return np.concatenate([chosen, order[left[order]]]), len(chosen)


def _greedy(order: NDArray[np.int64], codes: Codes, most: int, first: int) -> list[int]:
    """The candidates of the first ranks that keep the limit; those of exhausted values are skipped chunk by chunk."""
    chosen: list[int] = []
    counts: Counter[int] = Counter()
    exhausted = np.zeros(codes.max(initial=NONE) + 2, np.bool_)  # by code; the last one is NONE's
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        possible = chunk[~exhausted[codes[chunk]].any(axis=1)]
        for candidate, values in zip(possible.tolist(), map(_distinct, codes[possible].tolist()), strict=True):
            if any(counts[value] >= most for value in values):
                continue
            chosen.append(candidate)
            if len(chosen) == first:
                return chosen
            counts.update(values)
        exhausted[[value for value, count in counts.items() if count >= most]] = True
    return chosen


def _distinct(values: list[int]) -> set[int]:
    return {value for value in values if value != NONE}


def _codes(values: Any) -> Codes:
    codes: Codes = pc.fill_null(values.dictionary_encode().indices, NONE).to_numpy(zero_copy_only=False)
    return codes.astype(np.int32, copy=False)
