"""The position of an impression as an index: one for each of the first positions, one for several of those beyond."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 32  # positions 0 .. 31 have an index each, then 32 .. 63 one together, 64 .. 127 one, and so on
POSITIONS = EXACT + 63 - 5  # indices up to the largest int64
NO_POSITION = -1


def position_index(positions: NDArray[Any]) -> NDArray[np.int32]:
    """The index of each position [N], which counts from 0 or from 1; NO_POSITION where it is missing (NaN)."""
    known = np.nan_to_num(positions.astype(np.float64), nan=float(NO_POSITION))
    beyond = EXACT - 5 + np.floor(np.log2(np.maximum(known, EXACT)))
    index: NDArray[np.int32] = np.where(known < EXACT, known, np.minimum(beyond, POSITIONS - 1)).astype(np.int32)
    return index
