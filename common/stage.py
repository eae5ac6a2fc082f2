"""How a stage is run from the command line: typed arguments in, one clean sentence out when it fails."""

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import cyclopts

from common.diagnosis import explain
from common.errors import PipelineError
from common.exit_status import FAILED, USAGE
from common.stage_report import StageReport, claim_report, write_report


def run(function: Callable[..., Any], *, failed: int = FAILED, summary: bool = True) -> None:
    """Run `function` with the arguments of the command line, then print its time and peak memory (`summary`).

    Each keyword of the function is an option (`out: Path` is `--out`). A PipelineError ends the process with its
    message and exit status `failed`, or that of the error's class; so does an error that a file or the disk explains
    (common/diagnosis.py). A wrong command line ends it with USAGE; anything else is a fault of ours and keeps its
    traceback. A number that the function returns is the exit status. What a
    stage needs of torch, Feast, Great Expectations and BentoML it imports inside `function`, after the arguments are
    parsed: `--help` and a mistyped option do not pay for it.
    """
    started, report = time.perf_counter(), claim_report()
    app = cyclopts.App(name=f"python -m {_module()}", help=function.__doc__, result_action="return_value")
    app.default(function)
    error, options = None, {}
    try:
        command, bound, _ = app.parse_args(exit_on_error=False)
        bound.apply_defaults()
        options = dict(bound.arguments)
        status = int(command(*bound.args, **bound.kwargs) or 0)
    except cyclopts.CycloptsError:  # cyclopts has printed what is wrong
        sys.exit(USAGE)
    except PipelineError as stopped:
        status, error = stopped.exit_status or failed, str(stopped)
    except Exception as fault:
        if (error := explain(fault, options)) is None:
            raise
        status = failed
    if error is not None:
        print(f"\n{_module()} stopped: {error}", file=sys.stderr, flush=True)
    seconds, megabytes = time.perf_counter() - started, _peak_megabytes()
    if report is not None:
        end = StageReport(module=_module(), status=status, error=error, seconds=seconds, peak_megabytes=megabytes)
        write_report(end, report)
    if error is None and summary:
        print(f"{_module()}: {seconds:.1f} s, peak memory {megabytes:,.0f} MB", flush=True)
    if status:
        sys.exit(status)


def threads() -> int:
    """Cores that this process may use: those of its affinity, not of the machine, and at most OMP_NUM_THREADS.

    On a busy machine threads wait for each other, spinning: a training with two was ten times slower than with one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) else cores


def _module() -> str:
    """The module that was started by `python -m`; a package stands for its `__main__`."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else "stage"


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
