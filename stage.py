"""How a stage is run from the command line: typed arguments in, one clean sentence out when it fails."""

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import cyclopts

from errors import PipelineError


def run(function: Callable[..., Any], *, failed: int = 1) -> None:
    """Run `function` with the arguments of the command line, then print its time and peak memory.

    Each keyword of the function is an option (`out: Path` is `--out`). A PipelineError ends the process with
    its message and exit status `failed`; anything else is a fault of ours and keeps its traceback. A number that the
    function returns is the exit status.
    """
    started = time.perf_counter()
    app = cyclopts.App(name=f"python -m {_module()}", help=function.__doc__, result_action="return_value")
    app.default(function)
    try:
        status = app()
    except PipelineError as error:
        print(f"\n{_module()} stopped: {error}", file=sys.stderr, flush=True)
        sys.exit(failed)
    print(f"{_module()}: {time.perf_counter() - started:.1f} s, peak memory {_peak_megabytes():,.0f} MB", flush=True)
    if status:
        sys.exit(int(status))


def threads() -> int:
    """Cores that this process may use: those of its affinity, not of the machine, and at most OMP_NUM_THREADS.

    On a busy machine threads wait for each other, spinning: a training with two was ten times slower than with one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "stage"


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
