"""The borders behind the gate: facts in; outcomes of Great Expectations, a report and Data Docs out.

The raw log is judged row by row (validate). The training set, the tensors and the online store are measured by DuckDB
and NumPy instead, and Great Expectations judges small tables of facts: what a fact is about, what was found, what was
to be found. Memory does not grow with the rows.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
import pyarrow as pa
from great_expectations.data_context import AbstractDataContext

from common.errors import ValidationError
from features.quality import datadocs
from features.quality.expectations import Rule, expect
from features.quality.results import Outcome, evaluate, to_json

SPLITS = ("train", "valid", "test")
SHOWN = 5  # ids of a fault that a fact names; values that a page shows of a rule that holds


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A small table of facts and the rules that judge it; `key` names the column that says what a fact is about."""

    key: str
    rows: pa.Table
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What was found about one part of a border: a page of Data Docs. `rows` are those that the facts speak of."""

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
        """The suite as it stands in the report: what was found. A new rule that holds changes nothing in it."""
        return {"passed": not self.faults, "rows": self.rows, "failed": [outcome.report() for outcome in self.failed]}


@dataclass(frozen=True, kw_only=True)
class Border:
    """What stands above the pages of a border, and what to do when its gate is closed."""

    title: str
    remedy: str


def judge(context: AbstractDataContext, *tables: Facts) -> list[Outcome]:
    """One outcome per rule. A rule of scope "row" must hold for each fact; others see the table as a whole."""
    return [outcome for facts in tables if facts.rules for outcome in _judge(context, facts)]


def _judge(context: AbstractDataContext, facts: Facts) -> Iterable[Outcome]:
    for rule, result in zip(facts.rules, evaluate(context, facts.rules, facts.rows.to_pandas()), strict=True):
        outcome = Outcome(rule)
        if rule.scope == "row":
            outcome.add_rows(result, facts.rows, facts.key)
            outcome.observed = _observed(facts, rule)
        else:
            outcome.add_table(result, [value for name in rule.columns for value in facts.rows[name].to_pylist()])
        yield outcome


def _observed(facts: Facts, rule: Rule) -> list[str] | None:
    """What was found of each fact, for a page to show also where nothing is wrong; None where that would be long."""
    pairs = zip(facts.rows[facts.key].to_pylist(), facts.rows[rule.columns[0]].to_pylist(), strict=True)
    return [f"{about} {value}" for about, value in pairs] if facts.rows.num_rows <= SHOWN else None


def judge_count(context: AbstractDataContext, rule: Rule, rows: int) -> Outcome:
    """The outcome of a rule about the number of rows alone."""
    outcome = Outcome(rule)
    outcome.add_table(*evaluate(context, [rule], pd.DataFrame(index=pd.RangeIndex(rows))))
    return outcome


def as_wanted(name: str, column: str, sentence: str) -> Rule:
    """The rule that in every fact `column` is what the column "wanted <column>" says."""
    return expect(
        gxe.ExpectColumnPairValuesToBeEqual,
        "row",
        name,
        [column, f"wanted {column}"],
        sentence,
        column_A=column,
        column_B=f"wanted {column}",
        ignore_row_if="neither",
    )


def none_at_all(column: str, shown: list[str], sentence: str) -> Rule:
    """The rule that a count of faults is 0 in every fact; `shown` are the columns that show the fault beside it."""
    return expect(
        gxe.ExpectColumnValuesToBeInSet, "row", column, [column, *shown], sentence, column=column, value_set=[0]
    )


def shown(values: Iterable[Any]) -> str:
    """The first few of `values` as text, for a fact to name."""
    return ", ".join(str(value) for _, value in zip(range(SHOWN), values, strict=False))


def conclude(border: Border, suites: Sequence[Suite], *, name: str, report: Path, docs: Path) -> None:
    """Write the report and Data Docs of the data set `name`; raises ValidationError if a critical rule is broken."""
    publish(border, suites, name=name, report=report, docs=docs)
    broken = [suite for suite in suites if suite.faults]
    for suite in suites:
        print(_summary(suite), flush=True)
    if broken:
        faults = [f"  {suite.name}: {_told(outcome)}" for suite in broken for outcome in suite.faults]
        raise ValidationError(
            "\n".join(
                [
                    "the gate is closed, nothing goes on.",
                    *faults,
                    f"Report {report}, pages {docs / 'index.html'}. {border.remedy}",
                ]
            )
        )


def publish(border: Border, suites: Sequence[Suite], *, name: str, report: Path, docs: Path) -> None:
    """Write the report and Data Docs: the same outcomes give the same bytes."""
    tables = {suite.name: suite.report() for suite in suites}
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(to_json({"passed": all(table["passed"] for table in tables.values()), "tables": tables}))
    told = {suite.name: tables[suite.name] | {"expectations": len(suite.outcomes)} for suite in suites}
    datadocs.build(
        name,
        told,
        {suite.name: list(suite.outcomes) for suite in suites},
        docs,
        title=border.title,
        remedy=border.remedy,
    )


def _summary(suite: Suite) -> str:
    head = f"{suite.name}: {suite.rows:,} rows, {len(suite.outcomes)} expectations, {len(suite.failed)} not met"
    return "\n".join([head, *(f"  {outcome.rule.severity}: {_told(outcome)}" for outcome in suite.failed)])


def _told(outcome: Outcome) -> str:
    example = f"; found e.g. {json.dumps(outcome.examples[0])}" if outcome.examples else ""
    return f"{outcome.rule.name}: expected: {outcome.rule.sentence}{example}"
