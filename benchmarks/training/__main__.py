"""Benchmark: how fast HiNet trains, against a plain loop as public code has it and against the machine's limit.

    python -m benchmarks.training --json training.json

Everything is measured in one run, on the same rows and sizes. The variants are called in turns, so that a busy machine
is busy for all of them; a value is the median over the turns, a ratio the median of the ratios within a turn. The limit
is the time of the plain matrix products of the same shapes, forward and backward, each by the faster of torch's two
libraries; it has its turn too.
"""

import json as jsonlib
from pathlib import Path

from common import stage
from common.files import write_text

ROUNDS, ROWS = 15, 200_000
ROWS_ON_DISK = (2_000_000, 8_000_000, 32_000_000)  # whose epoch is measured for its memory


def training(*, json: Path = Path("artifacts/training.json"), rounds: int = ROUNDS, rows: int = ROWS) -> None:
    """Measure every size and sweep, print the tables and write them to `json`.

    Args:
        json: file of the report.
        rounds: turns of each measurement.
        rows: training rows.
    """
    import torch

    from benchmarks.training import speed, workload
    from benchmarks.training.memory import peak_megabytes

    threads = stage.threads()
    torch.set_num_threads(threads)
    report = {
        "threads": threads,
        "batch_size": workload.BATCH,
        "torch": torch.__version__,
        "sizes": {name: speed.measure_size(shape, rows, rounds) for name, shape in workload.SIZES.items()},
        "sweeps": speed.measure_sweeps(rows, rounds, threads),
        "memory_megabytes": peak_megabytes(ROWS_ON_DISK),
    }
    write_text(json, jsonlib.dumps(report, indent=1) + "\n")
    speed.show(report)


if __name__ == "__main__":
    stage.run(training)
