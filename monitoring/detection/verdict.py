"""From the tests of a comparison to findings and a verdict: worst first, each with a sentence.

A test is a finding where three conditions hold. It reaches its limit in params.yaml (it matters). It exceeds its noise
band (the reference does not vary so much). Its p-value, corrected for the number of tests, is below
`drift.significance` (it is not chance).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from common.errors import PipelineError
from common.exit_status import NO_VERDICT
from common.params import Drift
from monitoring.detection.drift_tests import DriftTest, Entry, rank, run_tests
from monitoring.report.sentences import SENTENCES

EVERYWHERE = 0.75  # share of the scenarios from which on a finding is one of the whole column
SAME_SCALE = 0.25  # mean and deviation have grown by the same factor, up to this relative difference
NEW_SCALE = 1.5  # smallest factor that counts as a change of unit
KINDS = (  # causes before effects
    "new_values",
    "missing",
    "outdated",
    "unit",
    "swapped",
    "range",
    "covariate",
    "mix",
    "volume",
    "label_rate",
    "label_shift",
    "calibration",
    "ranking",
    "score",
)
NOTHING_TESTED = "none"  # instead of a verdict: nothing was tested
BROKEN = frozenset({"missing", "outdated", "unit", "swapped", "range"})


class NoVerdictError(PipelineError):
    """Nothing of the window was tested, so there is neither ok nor drift."""

    exit_status = NO_VERDICT


def evaluate(comparison: Entry, limits: Drift) -> Entry:
    """The report: the comparison with a `verdict` in each entry, its findings, verdict, reason and next step."""
    return with_verdict(comparison, run_tests(comparison, limits), limits)


def with_verdict(comparison: Entry, tests: list[DriftTest], limits: Drift) -> Entry:
    """The comparison with the findings of its tests, and its verdict, reason and next step."""
    findings = sorted(_findings(comparison, tests), key=_urgency)
    return {**_summary(findings, comparison, tests, limits.fewest_rows), "findings": findings, **comparison}


def _findings(comparison: Entry, tests: list[DriftTest]) -> Iterator[Entry]:
    """A finding per kind, subject and scenario; one for all scenarios where most of them have it."""
    importance = {column["column"]: column["importance"] for column in comparison["columns"]}
    tested = Counter(subject for subject, _ in {(test.subject, test.scenario) for test in tests if test.enough_rows})
    for (subject, kind), by_scenario in _by_kind(tests).items():
        by_scenario.sort(key=lambda test: -test.value)
        everywhere = len(by_scenario) > 1 and len(by_scenario) >= EVERYWHERE * tested[subject]
        for test in by_scenario[:1] if everywhere else by_scenario:
            scenario = "all" if everywhere else test.scenario
            yield _finding(kind, test, scenario, importance.get(test.column or ""))


def _by_kind(tests: list[DriftTest]) -> dict[tuple[str, str], list[DriftTest]]:
    """The tests that are not ok by subject and kind: for each scenario the one that decides its kind."""
    cells: dict[tuple[str, str | None], list[DriftTest]] = defaultdict(list)
    for test in tests:
        if test.level != "ok":
            cells[test.subject, test.scenario].append(test)
    kinds: dict[tuple[str, str], list[DriftTest]] = defaultdict(list)
    for (subject, _), of_cell in cells.items():
        kind, deciding = _kind(of_cell)
        kinds[subject, kind].append(deciding)
    return kinds


def _kind(tests: list[DriftTest]) -> tuple[str, DriftTest]:
    """The kind of a finding from the tests of one subject in one scenario, and the test that decides it."""
    by_name = {test.statistic: test for test in tests}
    for name, kind in (("missing", "missing"), ("unknown", "new_values"), ("fresh", "outdated")):
        if name in by_name:
            return kind, by_name[name]
    if tests[0].column is None:
        return tests[0].statistic, tests[0]
    shifted = by_name.get("psi")
    if shifted and _is_rescaled(shifted.entry):
        return "unit", _always_act(shifted)
    if shifted and shifted.entry["swapped"]:
        return "swapped", _always_act(shifted)
    return ("range", by_name["out_of_range"]) if "out_of_range" in by_name else ("covariate", tests[0])


def _always_act(test: DriftTest) -> DriftTest:
    """The same test of a column that is broken: its level is act, never watch."""
    return replace(test, limits=test.limits.model_copy(update={"act": test.limits.watch}))


def _is_rescaled(cell: Entry) -> bool:
    if not cell["scale"]:
        return False
    mean, deviation = cell["scale"]
    apart = mean > 0 and max(mean, 1 / mean) >= NEW_SCALE
    return bool(apart and abs(deviation / mean - 1) <= SAME_SCALE)


def _finding(kind: str, test: DriftTest, scenario: str | None, importance: float | None) -> Entry:
    finding = {
        "kind": kind,
        "verdict": test.level,
        "column": test.column,
        "scenario": scenario,
        "task": test.task,
        "statistic": test.statistic,
        "value": test.value,
        "reference_value": _reference_value(test),
        "limit": test.limits.act if test.level == "act" else test.limits.watch,
        "noise": test.noise,
        "p_value": test.p_value,
        "corrected_p_value": test.corrected,
        "importance": importance,
        "history": test.entry["histories"].get(test.statistic, []),
    }
    return finding | {"sentence": SENTENCES[kind](test.entry, finding)}


def _reference_value(test: DriftTest) -> float | None:
    pair = test.entry.get(test.statistic)
    if isinstance(pair, list):
        return float(pair[0])
    names = {"label_rate": "reference_rate", "ranking": "reference_auc", "volume": "expected"}
    value: float | None = test.entry.get(names.get(test.statistic, "reference_ratio"))
    return value


def _urgency(finding: Entry) -> tuple[Any, ...]:
    return (
        -rank(finding["verdict"]),
        KINDS.index(finding["kind"]),
        -finding["value"] / finding["limit"],
        finding["column"] or "",
    )


def _summary(findings: list[Entry], comparison: Entry, tests: list[DriftTest], fewest: int) -> Entry:
    scenarios = comparison["mix"]["scenarios"]
    tested = {test.scenario for test in tests if test.column and test.enough_rows}
    if not tested and (not findings or sum(row["current_rows"] for row in scenarios) < fewest):
        return _nothing_tested(scenarios, comparison["volume"]["scenarios"], fewest)
    if not findings:
        few = [row["scenario"] for row in scenarios if row["scenario"] not in tested]
        untested = f" Too few rows to test {', '.join(few)}." if few else ""
        return {
            "verdict": "ok",
            "reason": f"No statistic exceeds its limit, its noise band and chance.{untested}",
            "next_step": "Nothing to do: the next window is evaluated as scheduled.",
        }
    first = findings[0]
    more = f" ({len(findings) - 1} more below)" if len(findings) > 1 else ""
    return {"verdict": first["verdict"], "reason": f"{first['sentence']}.{more}", "next_step": _next_step(first)}


def _nothing_tested(scenarios: list[Entry], volume: list[Entry], fewest: int) -> Entry:
    """Neither ok nor drift: no scenario has enough rows, in the window or in the reference."""
    shares = [row["reference_share"] for row in scenarios if row["reference_rows"] >= fewest]
    if not shares:
        most = max(row["reference_rows"] for row in scenarios)
        return {
            "verdict": NOTHING_TESTED,
            "reason": (
                f"Nothing was tested: no scenario has {fewest:,} rows (drift.fewest_rows) in the reference, the "
                f"largest has {most:,}."
            ),
            "next_step": "Train on more rows; or lower drift.fewest_rows in params.yaml, and trust the verdict less.",
        }
    largest = max(scenarios, key=lambda row: row["current_rows"])
    rows, usual = sum(row["current_rows"] for row in scenarios), sum(entry["expected"] for entry in volume)
    return {
        "verdict": NOTHING_TESTED,
        "reason": (
            f"Nothing was tested: of the {rows:,} rows of the window at most {largest['current_rows']:,} are of one "
            f"scenario ({largest['scenario']}), and a scenario is tested from {fewest:,} on (drift.fewest_rows). The "
            f"reference has {usual:,.0f} rows on as many days."
        ),
        "next_step": (
            f"About {math.ceil(fewest / max(shares)):,} rows of the usual mix would do: take more days into the "
            "window, and check upstream whether rows are missing."
        ),
    }


def _next_step(first: Entry) -> str:
    if first["verdict"] == "watch":
        return "Nothing to do yet: check whether the next window shows the same."
    if first["kind"] == "volume":
        return "Check upstream whether rows of these days are missing or doubled. Do not train on them before."
    if first["kind"] in BROKEN:
        column = first["column"].partition(":")[0]  # without ": length" or ": age" of a list
        return f"Check upstream what writes {column}. Do not train on this window before it is fixed."
    if first["kind"] == "new_values":
        return f"Train again, so that the new values of {first['column']} are known: `dvc repro`."
    return "Train again on a window that contains the change; the promotion policy compares the models: `dvc repro`."
