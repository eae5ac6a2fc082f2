"""reports/index.html, written anew when a flow has changed what it leads to."""

import sys
from pathlib import Path

from prefect.logging import get_run_logger

from flows.process.child_process import run_process
from flows.process.python_module import cause

MODULE = "monitoring.index"


async def write_index() -> None:
    """Run `python -m monitoring.index` where there are reports; that it could not is a warning, no more."""
    if not Path("reports").is_dir():
        return
    lines: list[str] = []
    if await run_process([sys.executable, "-m", MODULE], cwd=Path(), log=lines.append):
        get_run_logger().warning("reports/index.html is not of this run: %s", cause(lines))
