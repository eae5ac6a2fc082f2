"""Stage: drift of the newest window from the training reference: statistics, verdict, and a report page.

    python -m monitoring.drift --current data/training/test.parquet --reference artifacts/models/hinet_plus --out DIR

Exit status: 0 ok, 10 watch, 11 act, 3 if there is no verdict, 4 if the window cannot be read; with --report-only 0 for
every verdict.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

from common import params, stage
from common.exit_status import DONE, NO_VERDICT, VERDICTS
from common.files import partial_of, write_text
from common.run_identity import this_run

EXPECTATIONS = "expectations/index.html"  # relative to the page
REPORTS = ("drift.json", "index.html", "expectations.json")
SHOWN = 10  # findings that are printed


def drift(
    *,
    current: Path,
    reference: Path,
    out: Path,
    first_day: date | None = None,
    last_day: date | None = None,
    validation: Path | None = None,
    report_only: bool = False,
) -> int:
    """Compare the Parquet file(s) `current` with the model `reference`; write drift.json and index.html to `out`.

    Args:
        current: a file, or a pattern of files, of the window.
        reference: the model folder with the histograms of its training rows.
        out: the folder of the report.
        first_day: first day (UTC) of the window; without it and `last_day`, all rows.
        last_day: last day (UTC) of the window.
        validation: the report of the quality gate, whose result the page repeats.
        report_only: as an output of DVC: status 0 for every verdict, and no block `run`, so the same bytes every time.

    Returns:
        The exit status.
    """
    import torch

    from features.engine.engines import open_cluster
    from models.model_folder import read_model
    from monitoring.detection import drift_report, suite
    from monitoring.detection.drift_tests import run_tests
    from monitoring.detection.verdict import NOTHING_TESTED, NoVerdictError, with_verdict
    from monitoring.report.page import write

    for name in REPORTS:
        (out / name).unlink(missing_ok=True)  # those of an earlier run: where this one fails there are none
    torch.set_num_threads(stage.threads())
    parameters, model = params.load(), read_model(reference)
    limits, days = parameters.drift, drift_report.days_of(first_day, last_day)
    with open_cluster(parameters.engine, partial_of(out)) as engine:
        comparison = drift_report.compare(current, model, reference, limits, days=days, engine=engine)
    tests = run_tests(comparison, limits)
    more = {"quality": drift_report.quality_of(validation), "expectations": EXPECTATIONS}
    report = drift_report.rounded({**with_verdict(comparison, tests, limits), **more})
    run = None if report_only else this_run(report["current"]["sha256"])
    if run is not None:
        report |= run.block()
    suite.write_report(
        tests,
        name=model.schema.name,
        rows=report["current"]["rows"],
        report=out / "expectations.json",
        docs=(out / EXPECTATIONS).parent,
        run=run,
    )
    write(report, out / "index.html")
    write_text(out / "drift.json", json.dumps(report, indent=1, allow_nan=False) + "\n")  # last: the report is whole
    _print(report)
    if report["verdict"] == NOTHING_TESTED and not report_only:
        raise NoVerdictError(f"{current}: {report['reason']} {report['next_step']}")
    return DONE if report_only else VERDICTS[report["verdict"]]


def _print(report: dict[str, Any]) -> None:
    """The first findings, and the verdict with the next step."""
    for finding in report["findings"][:SHOWN]:
        print(f"  {finding['verdict']}: {finding['sentence']}")
    print(f"{report['verdict']}: {report['reason']} {report['next_step']}", flush=True)


if __name__ == "__main__":
    stage.run(drift, failed=NO_VERDICT)
