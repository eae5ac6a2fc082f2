"""A rule of a quality gate: an expectation of Great Expectations with its name, severity and sentence."""

import html
from dataclasses import dataclass
from typing import Any, Literal

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

Scope = Literal["structure", "table", "row"]
Severity = Literal["critical", "warning"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An expectation and its presentation in report and quarantine.

    `name` is the short name of the fault and the reason in quarantine, `sentence` the requirement, `columns` those
    that show a fault, the one at fault first. A broken rule of severity warning never closes the gate.
    """

    name: str
    scope: Scope
    severity: Severity
    columns: list[str]
    sentence: str
    expectation: Expectation


def expect(
    kind: type[Expectation],
    scope: Scope,
    name: str,
    columns: list[str],
    sentence: str,
    *,
    severity: Severity = "critical",
    **arguments: Any,
) -> Rule:
    """A rule with an expectation.

    Args:
        kind: class of the expectation.
        scope: what it is evaluated on: the structure of a file, a table as a whole, or rows.
        name: see Rule.
        columns: see Rule.
        sentence: see Rule.
        severity: see Rule.
        arguments: arguments of the expectation.
    """
    description = html.escape(sentence + " (a warning only)" * (severity == "warning")).replace("$", "$$")
    expectation = kind(**arguments, severity=FailureSeverity(severity), meta={"rule": name}, description=description)
    return Rule(name=name, scope=scope, severity=severity, columns=columns, sentence=sentence, expectation=expectation)


def expect_equal(name: str, column: str, sentence: str) -> Rule:
    """The rule that `column` equals the column "wanted <column>" in every row."""
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


def expect_zero(column: str, shown: list[str], sentence: str) -> Rule:
    """The rule that `column`, a number of faults, is 0 in every row; the columns `shown` show the fault, too."""
    return expect(
        gxe.ExpectColumnValuesToBeInSet, "row", column, [column, *shown], sentence, column=column, value_set=[0]
    )
