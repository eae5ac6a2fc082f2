"""Command: the days of a backtest as a table and a plot: the champion and a model never retrained, verdicts, releases.

    python -m monitoring.timeline --days DIR --out DIR

DIR holds a JSON file per day, as flows/backtest.py writes them. Makes timeline.json, timeline.md and timeline.svg.
"""

import json
from pathlib import Path

from common import stage
from common.errors import SourceError
from common.files import sha256_of_folder, write_text
from common.run_identity import this_run

NAMES = ("timeline.json", "timeline.md", "timeline.svg")


def timeline(*, days: Path, out: Path) -> None:
    """Write the table and the plot of the days in `days` to `out`; raises SourceError where there is none."""
    import vl_convert

    from monitoring.report.backtest import page, plot, sentence, summary

    for name in NAMES:
        (out / name).unlink(missing_ok=True)
    rows = [json.loads(path.read_text()) for path in sorted(days.glob("*.json"))]
    if not rows:
        raise SourceError(f"{days}: expected a JSON file for each day, found none; run python -m flows.backtest")
    write_text(out / "timeline.md", page(rows))
    write_text(out / "timeline.svg", vl_convert.vegalite_to_svg(plot(rows)))
    run = this_run(sha256_of_folder(days))
    document = {**summary(rows), "sentence": sentence(rows), "days": rows} | run.block()
    write_text(out / "timeline.json", json.dumps(document, indent=1, allow_nan=False) + "\n")  # last: all is whole
    print(sentence(rows), flush=True)


if __name__ == "__main__":
    stage.run(timeline)
