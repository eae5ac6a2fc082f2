"""What the expectations found: run by Great Expectations batch by batch, added up over the whole table."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import great_expectations as gx
import pandas as pd
import pyarrow as pa
from great_expectations.core import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.data_context import AbstractDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig

from features.quality.expectations import Rule

EXAMPLES = 10


def quiet_context() -> AbstractDataContext:
    """A context of Great Expectations that lives in memory and draws no progress bars."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def evaluate(
    context: AbstractDataContext, rules: Sequence[Rule], frame: pd.DataFrame
) -> list[ExpectationValidationResult]:
    """One result per rule, in their order; the places of the rows that break a rule about rows are in it.

    A metric that crashed is a fault of ours and no broken data: raises RuntimeError, where Great Expectations
    itself would report a failed expectation.
    """
    suite = ExpectationSuite(name="batch", expectations=[rule.expectation for rule in rules])
    batch = context.data_sources.pandas_default.read_dataframe(frame)
    found: dict[str, ExpectationValidationResult] = {}
    for result in batch.validate(suite, result_format="COMPLETE").results:
        name = (result.expectation_config.meta if result.expectation_config else {})["rule"]
        _raise_if_crashed(name, result)
        found[name] = result
    return [found[rule.name] for rule in rules]


def _raise_if_crashed(name: str, result: ExpectationValidationResult) -> None:
    told = result.exception_info or {}
    causes = [told] if "raised_exception" in told else list(told.values())
    for cause in causes:
        if cause["raised_exception"]:
            raise RuntimeError(
                f"Great Expectations could not evaluate {name!r}: {cause['exception_message']}\n"
                f"This is a fault of the rule and not of the data.\n{cause['exception_traceback']}"
            )


@dataclass
class Outcome:
    """What became of one rule so far: rows seen, missing and broken, and the first examples as plain values."""

    rule: Rule
    seen: int = 0
    missing: int = 0
    broken: int = 0
    success: bool = True
    observed: Any = None
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add_rows(self, result: ExpectationValidationResult, rows: pa.Table, key: str) -> Sequence[int]:
        """Add what was found in one batch; returns the places of the broken rows in it.

        The first broken rows become examples: the id of the row (`key`) and the columns that show the fault.
        """
        told = result.result
        self.success = self.success and bool(result.success)
        self.seen += told["element_count"]
        self.missing += told.get("missing_count") or 0
        self.broken += told["unexpected_count"]
        places = told.get("unexpected_index_list") or []
        first = pa.array(places[: EXAMPLES - len(self.examples)], pa.int64())
        shown = rows.select(list(dict.fromkeys([key, *self.rule.columns]))).take(first)
        self.examples += [plain(row) for row in _rows(shown)]
        return places

    def add_table(self, result: ExpectationValidationResult, observed: Any = None) -> None:
        """Add what was found about the table, or about the files that share one structure."""
        self.success = self.success and bool(result.success)
        told = result.result.get("observed_value")
        self.observed = plain(observed if told is None else told)
        if not result.success:
            self.examples.append({"observed": self.observed})

    def result(self) -> ExpectationValidationResult:
        """The outcome as a result of Great Expectations over the whole table, for Data Docs."""
        told = self._told_of_rows() if self.rule.scope == "row" else {}
        if self.rule.scope != "row" or self.observed is not None:
            told["observed_value"] = _text(self.observed)
        return ExpectationValidationResult(
            success=self.success, expectation_config=self.rule.expectation.configuration, result=told
        )

    def _told_of_rows(self) -> dict[str, Any]:
        return {
            "element_count": self.seen,
            "missing_count": self.missing,
            "unexpected_count": self.broken,
            "unexpected_percent": 100 * self.broken / max(self.seen - self.missing, 1),
            "partial_unexpected_list": [_text(row) for row in self.examples],
        }

    def report(self) -> dict[str, Any]:
        """The outcome as it stands in reports/validation.json."""
        return {
            "rule": self.rule.name,
            "severity": self.rule.severity,
            "scope": self.rule.scope,
            "column": self.rule.columns[0] if self.rule.columns else None,
            "broken": self.broken if self.rule.scope == "row" else None,
            "examples": self.examples,
        }


def _rows(shown: pa.Table) -> list[dict[str, Any]]:
    """The rows as Python's values; moments that Python has no value for, as text."""
    try:
        return shown.to_pylist()
    except (OverflowError, ValueError):
        types = [pa.string() if pa.types.is_timestamp(kind) else kind for kind in shown.schema.types]
        return shown.cast(pa.schema(zip(shown.column_names, types, strict=True))).to_pylist()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(held)}" for name, held in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list) else "missing" if value is None else str(value)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: moments as ISO text, numbers that are not finite as their name."""
    if isinstance(value, dict):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def to_json(document: Any) -> str:
    """The document as JSON, stable to the byte; NaN is refused."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
