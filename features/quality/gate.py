"""What the quality gates share: rules on tables of measurements, the report, Data Docs, and the decision.

The raw log is checked row by row (features/quality/raw_log.py). The training set, the tensors and the online store are
measured by DuckDB and NumPy instead, and Great Expectations evaluates small tables of measurements: what each is about,
its value, and the expected one. So memory does not grow with the rows.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from great_expectations.data_context import AbstractDataContext

from common.errors import ValidationError
from common.files import write_text
from common.run_identity import RunIdentity
from features.quality import datadocs
from features.quality.datadocs import QualityGate
from features.quality.results import Outcome, run_rules, to_json
from features.quality.rule import Rule

SHOWN = 5  # ids of a fault that a measurement names; values that a page shows of a rule that holds


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """A small table of measurements and their rules; the column `key` says what a measurement is about."""

    key: str
    rows: pa.Table
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """The outcomes of the rules of one suite, a page of Data Docs; `rows` is the number of rows that were measured."""

    name: str
    rows: int
    outcomes: Sequence[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes that did not pass, warnings too."""
        return [outcome for outcome in self.outcomes if not outcome.success]

    @property
    def faults(self) -> list[Outcome]:
        """Broken critical rules: each of them closes the gate."""
        return [outcome for outcome in self.failed if outcome.rule.severity == "critical"]

    def report(self) -> dict[str, Any]:
        """The suite as it stands in the report. It does not depend on the number of rules that hold."""
        return {"passed": not self.faults, "rows": self.rows, "failed": [outcome.report() for outcome in self.failed]}


def evaluate(context: AbstractDataContext, *tables: Measurements) -> list[Outcome]:
    """One outcome per rule. A rule of scope "row" must hold for each measurement, others for the table as a whole."""
    return [outcome for table in tables if table.rules for outcome in _evaluate(context, table)]


def _evaluate(context: AbstractDataContext, table: Measurements) -> Iterable[Outcome]:
    for rule, result in zip(table.rules, run_rules(context, table.rules, table.rows.to_pandas()), strict=True):
        outcome = Outcome(rule)
        if rule.scope == "row":
            outcome.add_rows(result, table.rows, table.key)
            outcome.observed = _observed(table, rule)
        else:
            outcome.add_table(result, [value for name in rule.columns for value in table.rows[name].to_pylist()])
        yield outcome


def _observed(table: Measurements, rule: Rule) -> list[str] | None:
    """The value of each measurement, for the page of a rule that holds; None where there are many."""
    pairs = zip(table.rows[table.key].to_pylist(), table.rows[rule.columns[0]].to_pylist(), strict=True)
    return [f"{about} {value}" for about, value in pairs] if table.rows.num_rows <= SHOWN else None


def evaluate_row_count(context: AbstractDataContext, rule: Rule, rows: int) -> Outcome:
    """The outcome of a rule about the number of rows."""
    outcome = Outcome(rule)
    outcome.add_table(*run_rules(context, [rule], pd.DataFrame(index=pd.RangeIndex(rows))))
    return outcome


def first_few(values: Iterable[Any]) -> str:
    """The first SHOWN of `values` as text."""
    return ", ".join(str(value) for _, value in zip(range(SHOWN), values, strict=False))


def enforce(
    gate: QualityGate,
    suites: Sequence[SuiteResult],
    *,
    name: str,
    compared: Sequence[Path] = (),
    report: Path,
    docs: Path,
    run: RunIdentity | None = None,
) -> None:
    """Write the report and Data Docs of the data set `name`; raises ValidationError if a critical rule is broken.

    The error names the files and folders that were `compared`.
    """
    write_report(gate, suites, name=name, report=report, docs=docs, run=run)
    for suite in suites:
        print(_summary(suite), flush=True)
    faults = [f"  {suite.name}: {_describe(outcome)}" for suite in suites for outcome in suite.faults]
    if faults:
        lines = [
            "the quality gate is closed: no later stage runs.",
            *faults,
            *([f"Compared: {', '.join(map(str, compared))}."] if compared else []),
            f"Report {report}, pages {docs / 'index.html'}. {gate.remedy}",
        ]
        raise ValidationError("\n".join(lines))


def write_report(
    gate: QualityGate,
    suites: Sequence[SuiteResult],
    *,
    name: str,
    report: Path,
    docs: Path,
    run: RunIdentity | None = None,
) -> None:
    """Write the report and Data Docs: the same outcomes give the same bytes, unless they say of which `run` they are.

    Args:
        gate: what is checked, in the words of its pages.
        suites: the results of each table.
        name: name of the data set.
        report: the JSON file.
        docs: folder of the pages.
        run: the run that writes them; None in a DVC stage, whose record is dvc.lock.
    """
    tables = {suite.name: suite.report() for suite in suites}
    block = {} if run is None else run.block()
    write_text(report, to_json({"passed": all(table["passed"] for table in tables.values()), "tables": tables} | block))
    shown = {suite.name: tables[suite.name] | {"expectations": len(suite.outcomes)} for suite in suites}
    outcomes = {suite.name: list(suite.outcomes) for suite in suites}
    datadocs.build(gate, shown, outcomes, docs, data=name, run=run)


def _summary(suite: SuiteResult) -> str:
    head = f"{suite.name}: {suite.rows:,} rows, {len(suite.outcomes)} expectations, {len(suite.failed)} not met"
    return "\n".join([head, *(f"  {outcome.rule.severity}: {_describe(outcome)}" for outcome in suite.failed)])


def _describe(outcome: Outcome) -> str:
    example = f"; found e.g. {json.dumps(outcome.examples[0])}" if outcome.examples else ""
    return f"{outcome.rule.name}: expected: {outcome.rule.sentence}{example}"
