"""What a benchmark ran on, and its progress."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import stage
from common.errors import PipelineError


def machine() -> dict[str, Any]:
    """Processor, cores, load and Python of this machine, and the time."""
    names = (
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": next(names, platform.machine()),
        "cores": stage.threads(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def report_progress(line: str) -> None:
    """Print a line of progress to standard error."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def require(*paths: Path) -> None:
    """Raise PipelineError unless all of the paths exist."""
    for path in paths:
        if not path.exists():
            raise PipelineError(f"{path} does not exist: run `dvc repro package`; train.epochs 1 will do")
