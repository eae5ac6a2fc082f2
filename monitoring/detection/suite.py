"""The table of statistics under Great Expectations, so that Data Docs show drift beside the quality of the data.

What is to be acted upon breaks a critical expectation, what is to be watched a warning.
"""

from collections.abc import Sequence
from pathlib import Path

import great_expectations.expectations as gxe
import pyarrow as pa

from features.quality import gate
from features.quality.expectations import Rule, Severity, expect
from features.quality.gate import Border, Facts, Suite
from features.quality.results import quiet_context
from monitoring.detection.verdict import Test

BORDER = Border(title="Drift", remedy="The page of the drift report says what to do.")
LEVELS = ("ok", "watch", "act")
TITLES = {
    "psi": "Population stability index of a column in a scenario",
    "missing": "Share of missing values",
    "unknown": "Share of values that the encoder does not know",
    "out_of_range": "Share of numbers beyond training",
    "fresh": "Share of sequences with a value of the youngest days",
    "mix": "Shares of the scenarios",
    "label_rate": "Rate of a task against the same weekdays",
    "score": "Scores of a scenario and task",
    "calibration": "Predicted over observed",
    "ranking": "AUC against the validation rows",
}
_COLUMNS = ("of", "level", "value", "watch", "act", "noise", "p")


def publish(tests: Sequence[Test], *, name: str, rows: int, report: Path, docs: Path) -> None:
    """Write what Great Expectations says of the weighed tests to `report` (JSON) and `docs` (Data Docs)."""
    facts = [Facts(key="of", rows=_table(statistic, tests), rules=tuple(_rules(statistic))) for statistic in TITLES]
    outcomes = gate.judge(quiet_context(), *(table for table in facts if table.rows.num_rows))
    gate.publish(BORDER, [Suite(name="statistics", rows=rows, outcomes=outcomes)], name=name, report=report, docs=docs)


def _table(statistic: str, tests: Sequence[Test]) -> pa.Table:
    rows = [
        (
            _place(test),
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


def _place(test: Test) -> str:
    return "/".join(part for part in (test.column, test.scenario, test.task) if part is not None)


def _rules(statistic: str) -> list[Rule]:
    asked: tuple[tuple[str, Severity, list[int]], ...] = (("act", "critical", [0, 1]), ("watch", "warning", [0]))
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
        for level, severity, allowed in asked
    ]
