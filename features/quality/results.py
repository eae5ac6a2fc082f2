"""Results of rules: Great Expectations evaluates them batch by batch, an outcome adds them up over the table."""

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
from great_expectations.expectations.expectation import Expectation

from features.quality.rule import Rule
from features.schema import INNER

EXAMPLES = 10
FRAMES = (
    "frames"  # data source, asset and batch definition: `read_dataframe` would write a configuration for each frame
)


def quiet_context() -> AbstractDataContext:
    """A context of Great Expectations in memory, without progress bars, with the data source of `run_rules`."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    frames = context.data_sources.add_pandas(FRAMES).add_dataframe_asset(FRAMES)
    frames.add_batch_definition_whole_dataframe(FRAMES)
    return context


def run_rules(
    context: AbstractDataContext, rules: Sequence[Rule], frame: pd.DataFrame
) -> list[ExpectationValidationResult]:
    """One result per rule, in their order; that of a rule about rows holds the indices of the rows that break it.

    A metric that crashes is a fault of the code and not of the data: raises RuntimeError, where Great Expectations
    would report a failed expectation.
    """
    suite = ExpectationSuite(name="batch", expectations=[rule.expectation for rule in rules])
    frames = context.data_sources.get(FRAMES).get_asset(FRAMES).get_batch_definition(FRAMES)
    batch = frames.get_batch(batch_parameters={"dataframe": frame})
    results: dict[str, ExpectationValidationResult] = {}
    with pd.option_context("mode.copy_on_write", True):  # else each rule copies the whole frame
        evaluated = batch.validate(suite, result_format="COMPLETE").results
    for result in evaluated:
        name = (result.expectation_config.meta if result.expectation_config else {})["rule"]
        _raise_if_crashed(name, result)
        results[name] = result
    return [results[rule.name] for rule in rules]


def _raise_if_crashed(name: str, result: ExpectationValidationResult) -> None:
    info = result.exception_info or {}
    causes = [info] if "raised_exception" in info else list(info.values())
    for cause in causes:
        if cause["raised_exception"]:
            raise RuntimeError(
                f"Great Expectations could not evaluate {name!r}: {cause['exception_message']}\n"
                f"This is a fault of the rule and not of the data.\n{cause['exception_traceback']}"
            )


@dataclass
class Outcome:
    """The outcome of one rule so far: rows seen, missing and broken, and the first examples as plain values."""

    rule: Rule
    seen: int = 0
    missing: int = 0
    broken: int = 0
    success: bool = True
    observed: Any = None
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add_rows(self, result: ExpectationValidationResult, rows: pa.Table, key: str) -> Sequence[int]:
        """Add the result of one batch; returns the indices of the broken rows in it.

        The first broken rows become examples: the id of the row (`key`) and the columns that show the fault.
        """
        counts = result.result
        self.success = self.success and bool(result.success)
        self.seen += counts["element_count"]
        self.missing += counts.get("missing_count") or 0
        self.broken += counts["unexpected_count"]
        indices = counts.get("unexpected_index_list") or []
        first = pa.array(indices[: EXAMPLES - len(self.examples)], pa.int64())
        shown = rows.select(list(dict.fromkeys([key, *self.rule.columns]))).take(first)
        shown = shown.rename_columns([name.removeprefix(INNER) for name in shown.column_names])
        self.examples += [plain(row) for row in _rows(shown)]
        return indices

    def add_table(self, result: ExpectationValidationResult, observed: Any = None) -> None:
        """Add the result of the table, or of the files that share one structure."""
        self.success = self.success and bool(result.success)
        value = result.result.get("observed_value")
        self.observed = plain(observed if value is None else value)
        if not result.success:
            self.examples.append({"observed": self.observed})

    def as_validation_result(self) -> ExpectationValidationResult:
        """The outcome as a result of Great Expectations over the whole table, for Data Docs."""
        result = self._row_counts() if self.rule.scope == "row" else {}
        if self.rule.scope != "row" or self.observed is not None:
            result["observed_value"] = _text(self.observed)
        return ExpectationValidationResult(
            success=self.success, expectation_config=for_data_docs(self.rule.expectation).configuration, result=result
        )

    def _row_counts(self) -> dict[str, Any]:
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
            "column": self.rule.columns[0].removeprefix(INNER) if self.rule.columns else None,
            "broken": self.broken if self.rule.scope == "row" else None,
            "examples": self.examples,
        }


def for_data_docs(expectation: Expectation) -> Expectation:
    """A copy of the expectation that names derived columns without INNER."""
    names = {name: getattr(expectation, name, None) for name in ("column", "column_A", "column_B")}
    shown: Expectation = expectation.copy(
        update={name: value.removeprefix(INNER) for name, value in names.items() if isinstance(value, str)}
    )
    return shown


def _rows(shown: pa.Table) -> list[dict[str, Any]]:
    """The rows as Python values; timestamps outside the range of Python as text."""
    try:
        rows: list[dict[str, Any]] = shown.to_pylist()
    except (OverflowError, ValueError):
        types = [pa.string() if pa.types.is_timestamp(kind) else kind for kind in shown.schema.types]
        rows = shown.cast(pa.schema(zip(shown.column_names, types, strict=True))).to_pylist()
    return rows


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list) else "missing" if value is None else str(value)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: timestamps as ISO text, numbers that are not finite as their name."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def nan_as_null(value: Any) -> Any:
    """The value, or the elements of a list; None for NaN, which means the same in both stores."""
    if isinstance(value, list):
        return [nan_as_null(element) for element in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def to_json(document: Any) -> str:
    """The document as JSON, the same bytes each time; raises ValueError at NaN and infinity."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
