"""The newest events of users as rectangular arrays, from which features are computed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.session.events import Events

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class States:
    """The newest events of the users of B rows, oldest first; `present` [B, K] says which of the K are events.

    `timestamps` int64 [B, K] in microseconds since 1970 (UTC), `items` [B, K], `scenarios` int64 [B, K] (indices of the
    schema's), `outcomes` float32 [B, K, T], NaN where they are not known.
    """

    present: Mask
    timestamps: NDArray[np.int64]
    items: NDArray[Any]
    scenarios: NDArray[np.int64]
    outcomes: NDArray[np.float32]


def to_states(events: Events, rows: int) -> States:
    """The events of B = `rows` users, whose codes are 0 .. B - 1, in the order of `merge`."""
    counts = np.bincount(events.users, minlength=rows)
    width = int(counts.max(initial=1))
    present = np.arange(width) >= width - counts[:, None]  # [B, K]: the last ones of a row

    def padded(values: NDArray[Any]) -> NDArray[Any]:
        filled = np.zeros((*present.shape, *values.shape[1:]), values.dtype)
        filled[present] = values
        return filled

    return States(
        present, padded(events.timestamps), padded(events.items), padded(events.scenarios), padded(events.outcomes)
    )
