"""From a comparison to a verdict: what exceeds its limit, its noise and chance, told in sentences, worst first.

A statistic becomes a finding where three things hold: it is as large as the limit in params.yaml (it matters), larger
than the noise band (the reference never did that), and its p-value, corrected for the number of tests, is below
`drift.significance` (it is no accident).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from common.params import Drift, Limits
from monitoring.detection.comparison import fall
from monitoring.detection.statistics import adjusted
from monitoring.report.sentences import SENTENCES

Entry = dict[str, Any]
Level = Literal["ok", "watch", "act"]
EVERYWHERE = 0.75  # share of the scenarios from which on a finding is one of the whole column
SAME_SCALE = 0.25  # mean and deviation have grown by one factor, give or take this share
NEW_SCALE = 1.5  # a factor that is no change of prices
KINDS = (  # causes before effects
    "new_values",
    "missing",
    "stale",
    "unit",
    "swapped",
    "range",
    "covariate",
    "mix",
    "label_rate",
    "calibration",
    "ranking",
    "score",
)
BROKEN = frozenset({"missing", "stale", "unit", "swapped", "range"})


@dataclass(frozen=True, kw_only=True)
class Test:
    """One statistic of one place against its limits; `told` is the entry that it comes from."""

    statistic: str
    value: float
    limits: Limits
    noise: float
    p_value: float
    told: Entry
    column: str | None = None
    scenario: str | None = None
    task: str | None = None
    judged: bool = True  # false: too few rows
    corrected: float = 0.0  # the p-value corrected for the number of tests
    certain: bool = True  # false: chance may have done it

    @property
    def subject(self) -> str:
        """What the test is about, in whatever scenario: a column, or a statistic of a task, or of the whole."""
        return self.column or f"{self.statistic} {self.task or ''}"

    @property
    def level(self) -> Level:
        """What the value means: ok within its limits, within its noise, or where chance may have done it."""
        if not (self.judged and self.certain) or self.value <= self.noise:
            return "ok"
        return "act" if self.value >= self.limits.act else "watch" if self.value >= self.limits.watch else "ok"


def weigh(report: Entry, limits: Drift) -> list[Test]:
    """Every test of the comparison; what chance may have done has the level ok.

    Writes a `verdict` into each entry, and `corrected_p_values` by statistic.
    """
    tests = [
        *_of_columns(report, limits),
        _of_mix(report, limits),
        *_of_labels(report, limits),
        *_of_scores(report, limits),
        *_of_ranking(report, limits),
    ]
    corrected = adjusted(np.array([test.p_value for test in tests])).tolist()
    tests = [
        replace(test, corrected=p, certain=p < limits.significance) for test, p in zip(tests, corrected, strict=True)
    ]
    for test in tests:
        test.told["corrected_p_values"][test.statistic] = test.corrected
        name = "calibration_verdict" if test.statistic == "calibration" else "verdict"
        test.told[name] = max(test.level, test.told[name], key=_rank)
    return tests


def judge(report: Entry, limits: Drift) -> Entry:
    """The report with a `verdict` in each entry, the `findings`, and its own verdict, reason and next step."""
    return conclude(report, weigh(report, limits))


def conclude(report: Entry, tests: list[Test]) -> Entry:
    """The report with the findings that the weighed tests come to, and its verdict, reason and next step."""
    kept = [test for test in tests if test.level != "ok"]
    findings = sorted(_findings(kept, report, tests), key=_urgency)
    return {**_summary(findings), "findings": findings, **report}


def _of_columns(report: Entry, limits: Drift) -> Iterator[Test]:
    for column in report["columns"]:
        for scenario, cell in column["scenarios"].items():
            cell.update(verdict="ok", corrected_p_values={})
            where = {"column": column["column"], "scenario": scenario, "judged": cell["enough_rows"], "told": cell}
            yield Test(
                statistic="psi",
                value=cell["psi"],
                limits=limits.psi,
                noise=cell["noise"],
                p_value=cell["p_value"],
                **where,
            )
            yield from _of_unusual(cell, limits, where)


def _of_unusual(cell: Entry, limits: Drift, where: Entry) -> Iterator[Test]:
    """Missing values, more or fewer; more unknown ones; numbers beyond those of training; fewer young sequences."""
    for name, p_value in cell["p_values"].items():
        then, now = cell[name]
        moved = abs(now - then) if name == "missing" else fall(then, now) if name == "fresh" else now - then
        noise = cell.get(f"{name}_noise", 0.0)
        yield Test(statistic=name, value=moved, limits=getattr(limits, name), noise=noise, p_value=p_value, **where)


def _of_mix(report: Entry, limits: Drift) -> Test:
    mix = report["mix"]
    mix.update(verdict="ok", corrected_p_values={})
    return Test(
        statistic="mix",
        value=mix["psi"],
        limits=limits.mix,
        noise=mix["noise"],
        p_value=mix["p_value"],
        told=mix,
        scenario=mix["linf_bin"],
    )


def _of_labels(report: Entry, limits: Drift) -> Iterator[Test]:
    for entry in report["labels"]:
        entry.update(verdict="ok", corrected_p_values={})
        if entry["rate"] is not None and entry["reference_rate"]:
            usual = entry["reference_rate"]
            yield Test(
                statistic="label_rate",
                value=abs(entry["rate"] / usual - 1),
                limits=limits.label_rate,
                noise=max(usual - entry["low"], entry["high"] - usual) / usual,
                p_value=entry["p_value"],
                told=entry,
                scenario=entry["scenario"],
                task=entry["task"],
                judged=entry["enough_rows"],
            )


def _of_scores(report: Entry, limits: Drift) -> Iterator[Test]:
    for entry in report["scores"]:
        entry.update(verdict="ok", corrected_p_values={})
        where = {"scenario": entry["scenario"], "task": entry["task"], "told": entry}
        enough = min(entry["rows"], entry["reference_rows"]) >= limits.fewest_rows
        yield Test(
            statistic="score",
            value=entry["psi"],
            limits=limits.score,
            noise=entry["noise"],
            p_value=entry["p_value"],
            judged=enough,
            **where,
        )
        entry["calibration_verdict"] = "ok" if entry["ratio"] else None
        if entry["ratio"]:
            factor = entry["ratio"] / entry["reference_ratio"]
            yield Test(
                statistic="calibration",
                value=max(factor, 1 / factor),
                limits=limits.calibration,
                noise=1.0,
                p_value=entry["calibration_p_value"],
                judged=enough,
                **where,
            )


def _of_ranking(report: Entry, limits: Drift) -> Iterator[Test]:
    for entry in report["performance"]:
        entry.update(verdict=None if entry["fall"] is None else "ok", corrected_p_values={})
        if entry["fall"] is not None:
            yield Test(
                statistic="ranking",
                value=entry["fall"],
                limits=limits.ranking,
                noise=entry["noise"],
                p_value=entry["p_value"],
                told=entry,
                scenario=entry["scenario"],
                task=entry["task"],
                judged=min(entry["rows"], entry["reference_rows"]) >= limits.fewest_rows,
            )


def _findings(kept: list[Test], report: Entry, tests: list[Test]) -> Iterator[Entry]:
    """One per kind and place; one for all scenarios where most of them have it."""
    weight = {column["column"]: column["importance"] for column in report["columns"]}
    cells: dict[tuple[str, str | None], list[Test]] = defaultdict(list)
    for test in kept:
        cells[test.subject, test.scenario].append(test)
    kinds: dict[tuple[str, str], list[Test]] = defaultdict(list)
    for (subject, _), of_cell in cells.items():
        kind, worst = _kind(of_cell)
        kinds[subject, kind].append(worst)
    judged = Counter(
        test.subject for test in {(one.subject, one.scenario): one for one in tests if one.judged}.values()
    )
    for (subject, kind), found in kinds.items():
        found.sort(key=lambda test: -test.value)
        everywhere = len(found) > 1 and len(found) >= EVERYWHERE * judged[subject]
        for test in found[:1] if everywhere else found:
            yield _finding(kind, test, "all" if everywhere else test.scenario, weight.get(test.column or ""))


def _kind(tests: list[Test]) -> tuple[str, Test]:
    """What the tests of one place say together, and the one that says it."""
    by_name = {test.statistic: test for test in tests}
    for name, kind in (("missing", "missing"), ("unknown", "new_values"), ("fresh", "stale")):
        if name in by_name:
            return kind, by_name[name]
    if tests[0].column is None:
        return tests[0].statistic, tests[0]
    shifted = by_name.get("psi")
    if shifted and _rescaled(shifted.told):
        return "unit", _raised(shifted)
    if shifted and shifted.told["swapped"]:
        return "swapped", _raised(shifted)
    return ("range", by_name["out_of_range"]) if "out_of_range" in by_name else ("covariate", tests[0])


def _raised(test: Test) -> Test:
    """A column that is broken is never only to be watched."""
    return replace(test, limits=test.limits.model_copy(update={"act": test.limits.watch}))


def _rescaled(cell: Entry) -> bool:
    if not cell["scale"]:
        return False
    mean, deviation = cell["scale"]
    apart = mean > 0 and max(mean, 1 / mean) >= NEW_SCALE
    return bool(apart and abs(deviation / mean - 1) <= SAME_SCALE)


def _finding(kind: str, test: Test, where: str | None, importance: float | None) -> Entry:
    told = test.told
    found = {
        "kind": kind,
        "verdict": test.level,
        "column": test.column,
        "scenario": where,
        "task": test.task,
        "statistic": test.statistic,
        "value": test.value,
        "reference_value": _reference_value(test),
        "limit": test.limits.act if test.level == "act" else test.limits.watch,
        "noise": test.noise,
        "p_value": test.p_value,
        "corrected_p_value": test.corrected,
        "importance": importance,
        "history": told["histories"].get(test.statistic, []),
    }
    return found | {"sentence": SENTENCES[kind](told, found)}


def _reference_value(test: Test) -> float | None:
    held = test.told.get(test.statistic)
    if isinstance(held, list):
        return float(held[0])
    names = {"label_rate": "reference_rate", "ranking": "reference_auc"}
    value: float | None = test.told.get(names.get(test.statistic, "reference_ratio"))
    return value


def _rank(level: Level) -> int:
    return ("ok", "watch", "act").index(level)


def _urgency(found: Entry) -> tuple[Any, ...]:
    return (
        -_rank(found["verdict"]),
        KINDS.index(found["kind"]),
        -found["value"] / found["limit"],
        found["column"] or "",
    )


def _summary(findings: list[Entry]) -> Entry:
    if not findings:
        return {
            "verdict": "ok",
            "reason": "Nothing exceeds its limit, its noise band and chance.",
            "next_step": "Nothing to do: the next window is judged as scheduled.",
        }
    first = findings[0]
    more = f" ({len(findings) - 1} more below)" if len(findings) > 1 else ""
    return {"verdict": first["verdict"], "reason": f"{first['sentence']}.{more}", "next_step": _next_step(first)}


def _next_step(first: Entry) -> str:
    if first["verdict"] == "watch":
        return "Nothing to do yet: look whether the next window says the same."
    if first["kind"] in BROKEN:
        column = first["column"].partition(":")[0]  # of a list's length or age
        return f"Look at what writes {column} upstream. Do not train on this window before it is mended."
    if first["kind"] == "new_values":
        return f"Train again, so that the new values of {first['column']} are known: `dvc repro`."
    return "Train again on a window that holds the change, and let the release gate compare: `dvc repro`."
