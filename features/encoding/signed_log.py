"""The logarithm of a count or price, in numpy and in SQL: sign(v) log(1 + |v|), which is log(1 + v) from 0 on.

It is defined for every number, so a count that says -1 for "unknown", as in public logs, is a value of its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def signed_log(values: NDArray[np.float64]) -> NDArray[Any]:
    """sign(v) log(1 + |v|) of each value; NaN stays NaN."""
    return np.copysign(np.log1p(np.abs(values)), values)


def signed_log_sql(value: str) -> str:
    """SQL: sign(v) log(1 + |v|) of a number."""
    return f"(sign({value}) * ln(1 + abs({value})))"
