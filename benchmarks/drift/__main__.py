"""Benchmark: whether planted shifts are detected, and whether there are false alarms without a shift.

    python -m benchmarks.drift --seeds 50 --json drift.json

Every seed is another simulated log of 21 days, and of 10 days for the kinds that begin with `young`; see
benchmarks/drift/simulated_log.py for its parts. The JSON is written after every log; with the same file the command
continues with what is missing.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from common import stage
from common.errors import ParameterError
from common.openmp import beside_others


def drift(
    *,
    seeds: int = 50,
    only: str | None = None,
    processes: int | None = None,
    json: Path = Path("artifacts/drift.json"),
) -> None:
    """Plant every shift in `seeds` simulated logs; print how often it was detected, and the false alarms.

    Args:
        seeds: Number of simulated logs.
        only: Kinds of shift, with commas between; None: all.
        processes: Logs at once; None: one per core.
        json: File of the results, which is continued where it exists.
    """
    from tqdm import tqdm

    from benchmarks.accuracy.runs import without_progress_bars
    from benchmarks.drift.planted_shifts import KINDS, Results, run_kinds, show

    kinds = frozenset(only.split(",") if only else KINDS)
    if unknown := kinds - {*KINDS}:
        raise ParameterError(f"--only {only}: {sorted(unknown)} are none of {KINDS}")
    results, context = Results(json), multiprocessing.get_context("spawn")
    os.environ |= beside_others()  # of the processes of the pool
    with without_progress_bars(), ProcessPoolExecutor(processes or stage.threads(), mp_context=context) as pool:
        futures = [pool.submit(run_kinds, *missing) for missing in results.missing(seeds, kinds).items()]
        for future in tqdm(as_completed(futures), total=len(futures), unit="log", desc="drift"):
            results.add(future.result())
    show(results.runs)


if __name__ == "__main__":
    stage.run(drift)
