"""Settings of torch and the C library that a training run needs: device, determinism, denormal numbers, memory."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import torch

from common.errors import TrainingError


def resolve_device(device: str) -> torch.device:
    """`cpu`, `cuda`, or the GPU where there is one (`auto`); raises TrainingError if CUDA is requested and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("train.device is cuda, but torch sees no GPU: set it to auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def make_deterministic(seed: int) -> None:
    """Seed torch and choose deterministic kernels: the same run gives the same bits on one machine and thread count."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Round denormal numbers to 0 inside the block: some processors handle each of them in a slow trap.

    Threads that torch starts inside keep the setting: enter before its first work on a large tensor.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory: else every step's activations are fresh pages (measured: a third of a step)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
