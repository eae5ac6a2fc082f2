"""The parts and their order: what says most comes first, for the budget may end before the last."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.learning import mean_auc
from benchmarks.gpu.parts import Part, Parts
from benchmarks.gpu.products import roof
from benchmarks.gpu.sizes import CAPTURED, COMPILED, EAGER, PLAIN, TINY, Size, Variant, sizes
from benchmarks.gpu.steps import steps
from common.errors import TrainingError
from common.paths import ROOT

NO_GPU = "torch sees no GPU"
TESTS = ("tests/models/training", "-m", "cuda")
CPU = "on the CPU"  # the variant that the others' AUC is compared with
SECONDS, SECONDS_WITHOUT_GPU = 1.5, 0.02  # of a measurement of speed
NEEDS = {"tests": 90.0, "auc": 40.0, "roof": 15.0, "steps": 15.0, "compiled steps": 75.0}  # seconds, at most


def run_parts(parts: Parts, device: torch.device, rows: int) -> None:
    """Run every part that the machine and the budget allow; a tiny size where there is no GPU."""
    gpu = device.type == "cuda"
    seconds = SECONDS if gpu else SECONDS_WITHOUT_GPU
    measured = sizes() if gpu else [TINY]
    parts.run(Part(kind="tests", needs=NEEDS["tests"]), cuda_tests, None if gpu else NO_GPU)

    def run(kind: str, size: Size, variant: Variant, call: Callable[[], dict[str, Any]]) -> None:
        needs = NEEDS["compiled steps"] if variant.compiled else NEEDS[kind]
        part = Part(kind=kind, size=size.name, variant=variant.name, needs=needs)
        parts.run(part, call, None if gpu or (variant == PLAIN and kind != "auc") else NO_GPU)

    for size in measured[:2]:
        on_cpu = Part(kind="auc", size=size.name, variant=CPU, needs=NEEDS["auc"])
        parts.run(on_cpu, partial(mean_auc, size, PLAIN, rows // 5, torch.device("cpu")))
        for variant in (*EAGER, *CAPTURED):
            run("auc", size, variant, partial(mean_auc, size, variant, rows // 5, device))
    for size in measured:
        for variant in EAGER:
            run("roof", size, variant, partial(roof, size, variant, rows, device, seconds))
        for variant in (*EAGER, *CAPTURED):
            run("steps", size, variant, partial(steps, size, variant, rows, device, seconds))
    for variant in COMPILED:
        for size in measured:
            run("steps", size, variant, partial(steps, size, variant, rows, device, seconds))


def cuda_tests() -> dict[str, Any]:
    """The last line of pytest about the tests that need a GPU.

    Raises TrainingError unless some ran and all of them passed.
    """
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(command, cwd=ROOT, timeout=NEEDS["tests"], capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    if done.returncode or "passed" not in lines[-1]:
        print(done.stdout, done.stderr, file=sys.stderr)
        raise TrainingError(f"pytest {' '.join(TESTS)} ended with {done.returncode}: {lines[-1]}")
    return {"summary": lines[-1]}
