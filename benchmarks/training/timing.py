"""Timing of several variants in turns."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def seconds_by_turn(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Seconds of each variant [rounds]: each turn calls each variant once; one turn before them is not counted."""
    for call in variants.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def median_seconds(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each variant over `rounds` turns."""
    return {name: float(np.median(values)) for name, values in seconds_by_turn(variants, rounds).items()}
