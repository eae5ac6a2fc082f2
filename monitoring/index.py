"""Command: reports/index.html, one page that leads to every report of the last run.

python -m monitoring.index
"""

from pathlib import Path

from common import stage
from common.files import write_text
from common.paths import REPORTS


def index(*, reports: Path = REPORTS) -> None:
    """Write index.html, with an entry for every report, to the folder `reports`."""
    from monitoring.report.reports_index import render

    write_text(reports / "index.html", render(reports))


if __name__ == "__main__":
    stage.run(index, summary=False)
