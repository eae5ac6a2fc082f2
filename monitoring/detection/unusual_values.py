"""Shares of unusual values in the bins of a column: unknown, beyond those of training, rarely young, exchanged."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.encoding.bins import BELOW, MISSING, OTHER, UNKNOWN, Bins
from monitoring.detection.statistics import psi, shares

Counts = NDArray[np.int64]
YOUNG = slice(BELOW, BELOW + 2)  # of an age: the smallest one of training, and less
RARE = 0.001  # share below which a bin counts as never seen
REMAINING = 0.3  # share of a distance that may remain when two exchanged categories are exchanged back


def comparable(bins: Bins, counts: Counts) -> Counts:
    """Counts [..., bins] without values that the training rows cannot have: bins and vocabularies were fitted on them.

    Unknown values are left out; numbers beyond the first or last bin count in it. Both are tested separately.
    """
    folded = counts.copy()
    if bins.numeric:
        for outer, inner in ((BELOW, BELOW + 1), (bins.count - 1, bins.count - 2)):
            folded[..., inner] += counts[..., outer]
            folded[..., outer] = 0
    else:
        folded[..., UNKNOWN] = 0
    return folded


def fresh_share(counts: Counts) -> float:
    """The share of the sequences with a value whose newest value is as young as the youngest of training."""
    return float(counts[YOUNG].sum() / max(counts[BELOW:].sum(), 1))


def fresh_fall(current: Counts, reference: Counts) -> float:
    """The relative fall of the share of fresh sequences."""
    return relative_fall(fresh_share(reference), fresh_share(current))


def relative_fall(reference: float, current: float) -> float:
    """The fall of a share in relation to itself: 0 where it has not fallen."""
    return max(1 - current / reference, 0.0) if reference else 0.0


def share_beyond(current: Counts, reference: Counts) -> float:
    """The share of the numbers of a window in bins that are almost empty in the reference."""
    rare = shares(reference) < RARE
    rare[MISSING] = False
    return float(shares(current)[rare].sum())


def swapped_categories(bins: Bins, current: Counts, reference: Counts, distance: float) -> list[str] | None:
    """Two categories whose exchange explains most of the `distance` (PSI); None where there are no such two."""
    moved = shares(current) - shares(reference)
    up, down = int(moved.argmax()), int(moved.argmin())
    exchanged = current.copy()
    exchanged[[up, down]] = current[[down, up]]
    explained = min(up, down) > OTHER and psi(exchanged, reference) < REMAINING * distance
    return [bins.labels[up], bins.labels[down]] if explained else None


def plain_shares(values: NDArray[Any]) -> list[float]:
    """Shares as a document holds them: six decimals."""
    return [round(value, 6) for value in values.tolist()]
