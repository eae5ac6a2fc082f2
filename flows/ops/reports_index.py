"""reports/index.html, written anew when a flow has changed the pages that it links to."""

import sys

from prefect.logging import get_run_logger

from common.paths import INDEX, REPORTS
from flows.process.reported import cause_of, run_reported

MODULE = "monitoring.index"


async def write_index() -> None:
    """Run `python -m monitoring.index` where there are reports; a failure is logged as a warning."""
    if not REPORTS.is_dir():
        return
    result = await run_reported([sys.executable, "-m", MODULE], log=lambda _: None)
    if result.status:
        get_run_logger().warning("%s is not of this run: %s", INDEX, cause_of(MODULE, result))
