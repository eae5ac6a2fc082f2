"""What is measured: the sizes of HiNet, and the variants of its training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.training.workload import AUTHORS
from common import params

SCENARIOS, AUTHORS_SCENARIOS = 6, 3  # of the simulation; of the training benchmark
AUTHORS_BATCHES = (4096, 16_384, 65_536)  # the first is the authors'


@dataclass(frozen=True, kw_only=True)
class Size:
    """A shape of HiNet with its number of scenarios, and the rows of a batch."""

    name: str
    shape: dict[str, Any]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to train: float32, tf32 or bfloat16 products, captured as a CUDA graph or not, compiled by torch or not."""

    precision: str
    captured: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        """Its name in the table."""
        return ", ".join([self.precision, *["captured"] * self.captured, *["compiled"] * self.compiled])

    @property
    def recipe(self) -> dict[str, Any]:
        """The hyperparameters that it changes; TF32 is a setting of torch, not one of params.yaml."""
        return {
            "precision": "bfloat16" if self.precision == "bfloat16" else "float32",
            "capture": self.captured,
        }

    @contextmanager
    def products(self) -> Iterator[None]:
        """Products of float32 matrices run in TF32 inside the block, if the variant is in TF32, and else exactly."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


PLAIN = Variant(precision="float32")  # the only one without a GPU
PRECISIONS = ("float32", "tf32", "bfloat16")
EAGER = [Variant(precision=precision) for precision in PRECISIONS]
CAPTURED = [Variant(precision=precision, captured=True) for precision in PRECISIONS]
COMPILED = [
    Variant(precision="bfloat16", captured=True, compiled=True),
    Variant(precision="bfloat16", compiled=True),
    Variant(precision="tf32", captured=True, compiled=True),
]
TINY = Size(
    name="tiny",
    shape={
        "sub_experts": 2,
        "expert_units": (8, 4),
        "task_experts": 2,
        "shared_experts": 1,
        "task_expert_units": (4,),
        "tower_units": (4,),
        "scenario_width": 4,
        "scenarios": AUTHORS_SCENARIOS,
    },
    batch_size=128,
)


def sizes() -> list[Size]:
    """The authors' size at its batch size, that of params.yaml, and the authors' with larger batches."""
    train = params.load().train
    default = Size(
        name="default",
        shape={**train.hinet.shape(), "scenarios": SCENARIOS},
        batch_size=train.batch_size,
    )
    shape = {**AUTHORS, "scenarios": AUTHORS_SCENARIOS}
    authors = [Size(name=f"authors, batch {batch:,}", shape=shape, batch_size=batch) for batch in AUTHORS_BATCHES]
    return [authors[0], default, *authors[1:]]
