"""The drift statistics as expectations of Great Expectations: Data Docs show drift as they show data quality.

A statistic with the level act breaks a critical expectation, one with the level watch a warning.
"""

from collections.abc import Sequence
from pathlib import Path

import great_expectations.expectations as gxe
import pyarrow as pa

from common.run_identity import RunIdentity
from features.quality import gate
from features.quality.datadocs import QualityGate
from features.quality.gate import Measurements, SuiteResult
from features.quality.results import quiet_context
from features.quality.rule import Rule, Severity, expect
from monitoring.detection.drift_tests import DriftTest

REPORT = QualityGate(
    name="drift",
    title="Drift",
    remedy="The page of the drift report gives the next step.",
    headings=("No statistic has the level act", "A statistic has the level act"),
)
LEVELS = ("ok", "watch", "act")
TITLES = {
    "psi": "Population stability index of a column in a scenario",
    "missing": "Share of missing values",
    "unknown": "Share of values that the encoder does not know",
    "out_of_range": "Share of numbers beyond training",
    "fresh": "Share of sequences with a value of the youngest days",
    "mix": "Shares of the scenarios",
    "volume": "Rows of a scenario against the same weekdays",
    "label_rate": "Rate of a task, or mean of a regression target, against the same weekdays",
    "label_shift": "Population stability index of a regression target",
    "score": "Scores of a scenario and task",
    "calibration": "Predicted over observed",
    "ranking": "AUC against the validation rows",
}
_COLUMNS = ("of", "level", "value", "watch", "act", "noise", "p")


def write_report(
    tests: Sequence[DriftTest], *, name: str, rows: int, report: Path, docs: Path, run: RunIdentity | None = None
) -> None:
    """Write the results of Great Expectations on the tests to `report` (JSON) and `docs` (Data Docs).

    Args:
        tests: the tests of the drift report.
        name: name of the data set.
        rows: rows of the window.
        report: the JSON file.
        docs: folder of the pages.
        run: the run that writes them; None in a DVC stage.
    """
    tables = [
        Measurements(key="of", rows=_table(statistic, tests), rules=tuple(_rules(statistic))) for statistic in TITLES
    ]
    outcomes = gate.evaluate(quiet_context(), *(table for table in tables if table.rows.num_rows))
    suite = SuiteResult(name="statistics", rows=rows, outcomes=outcomes)
    gate.write_report(REPORT, [suite], name=name, report=report, docs=docs, run=run)


def _table(statistic: str, tests: Sequence[DriftTest]) -> pa.Table:
    rows = [
        (
            _subject(test),
            LEVELS.index(test.level),
            test.value,
            test.limits.watch,
            test.limits.act,
            test.noise,
            test.p_value,
        )
        for test in tests
        if test.statistic == statistic
    ]
    return pa.table(dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)) if rows else {"of": []})


def _subject(test: DriftTest) -> str:
    return "/".join(part for part in (test.column, test.scenario, test.task) if part is not None)


def _rules(statistic: str) -> list[Rule]:
    levels: tuple[tuple[str, Severity, list[int]], ...] = (("act", "critical", [0, 1]), ("watch", "warning", [0]))
    return [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "row",
            f"{statistic} to {level}",
            ["level", *_COLUMNS[2:]],
            f'{TITLES[statistic]}: below the limit "{level}", or within noise or chance',
            severity=severity,
            column="level",
            value_set=allowed,
        )
        for level, severity, allowed in levels
    ]
