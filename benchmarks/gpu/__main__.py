"""Benchmark: what training on this machine's GPU gives, in one command of less than eight minutes.

    python -m benchmarks.gpu --json gpu.json

In this order: the tests that need a GPU; the AUC on the GPU against that on the CPU; the rate of the matrix products of
a step, which is the roof; the training loop in float32, TF32 and bfloat16, launched kernel by kernel or captured as a
CUDA graph; and the same compiled by torch. The sizes are that of params.yaml and the authors' with three batch sizes.

A part that would not end within the time budget is not run, and neither is one that needs a GPU where torch sees none:
there only a tiny size is measured, on the CPU, and the report names what was not run and why. The JSON is written after
every part. The exit status is 1 if a part failed or an AUC differs.
"""

from pathlib import Path

from common import stage

MINUTES = 7.0


def gpu(*, json: Path = Path("artifacts/gpu.json"), minutes: float = MINUTES, rows: int = 1_000_000) -> int:
    """Run the parts until the budget is spent, print the tables and write them to `json`.

    Args:
        json: file of the report.
        minutes: time budget of all parts together.
        rows: training rows of a speed measurement; a fifth of them of an AUC.
    """
    import torch

    from benchmarks.gpu.parts import Parts, machine_with_gpu
    from benchmarks.gpu.plan import run_parts
    from benchmarks.gpu.report import failures, show
    from models.training.device import make_deterministic, resolve_device

    torch.set_num_threads(stage.threads())
    make_deterministic(1)  # before the first kernel: it sets the workspace of cuBLAS
    device = resolve_device("auto")
    parts = Parts(json, machine_with_gpu(device), minutes * 60)
    run_parts(parts, device, rows)
    show(parts.report)
    return int(bool(failures(parts.report)))


if __name__ == "__main__":
    stage.run(gpu)
