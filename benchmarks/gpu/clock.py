"""Seconds of work that a device does on its own: it is waited for at the end of a block of calls only."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

CALLS = {"cuda": 20, "cpu": 2}  # of a block
BLOCKS = 5  # at least


def seconds_per_call(call: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """The median of the seconds of a call over blocks of calls, at least BLOCKS of them and `seconds` long in all.

    One block before them is not counted.
    """
    spent: list[float] = []
    end = time.perf_counter() + seconds
    _block(call, device)
    while len(spent) < BLOCKS or time.perf_counter() < end:
        spent.append(_block(call, device))
    return float(np.median(spent)) / CALLS[device.type]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _block(call: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    for _ in range(CALLS[device.type]):
        call()
    synchronize(device)
    return time.perf_counter() - started
