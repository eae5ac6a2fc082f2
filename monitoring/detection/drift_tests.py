"""The tests of a comparison: every statistic against its limit, its noise band and chance."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from common.params import Drift, Limits
from monitoring.detection.statistics import adjusted
from monitoring.detection.unusual_values import relative_fall

Entry = dict[str, Any]
Level = Literal["ok", "watch", "act"]


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """One statistic of a column or task in a scenario against its limits; `entry` is its part of the comparison."""

    statistic: str
    value: float
    limits: Limits
    noise: float
    p_value: float
    entry: Entry
    column: str | None = None
    scenario: str | None = None
    task: str | None = None
    enough_rows: bool = True
    corrected: float = 0.0  # the p-value corrected for the number of tests
    significant: bool = True

    @property
    def subject(self) -> str:
        """The column, or the statistic and its task, in any scenario."""
        return self.column or f"{self.statistic} {self.task or ''}"

    @property
    def level(self) -> Level:
        """The level of the value: ok within its limits, within its noise, and where it is not significant."""
        if not (self.enough_rows and self.significant) or self.value <= self.noise:
            return "ok"
        return "act" if self.value >= self.limits.act else "watch" if self.value >= self.limits.watch else "ok"


def run_tests(comparison: Entry, limits: Drift) -> list[DriftTest]:
    """Every test of the comparison, with p-values corrected for their number.

    Writes a `verdict` into each entry, None where nothing of it was tested, and `corrected_p_values` by statistic.
    """
    tests = [
        *_column_tests(comparison, limits),
        _mix_test(comparison, limits),
        *_volume_tests(comparison, limits),
        *_label_tests(comparison, limits),
        *_score_tests(comparison, limits),
        *_auc_tests(comparison, limits),
    ]
    corrected = adjusted(np.array([test.p_value for test in tests])).tolist()
    tests = [
        replace(test, corrected=p, significant=p < limits.significance)
        for test, p in zip(tests, corrected, strict=True)
    ]
    for test in tests:
        test.entry["corrected_p_values"][test.statistic] = test.corrected
        name = "calibration_verdict" if test.statistic == "calibration" else "verdict"
        if test.enough_rows:
            test.entry[name] = max(test.level, test.entry[name] or "ok", key=rank)
    return tests


def rank(level: Level) -> int:
    """The order of the levels: ok 0, watch 1, act 2."""
    return ("ok", "watch", "act").index(level)


def _column_tests(comparison: Entry, limits: Drift) -> Iterator[DriftTest]:
    for column in comparison["columns"]:
        for scenario, cell in column["scenarios"].items():
            cell.update(verdict=None, corrected_p_values={})
            where = {
                "column": column["column"],
                "scenario": scenario,
                "enough_rows": cell["enough_rows"],
                "entry": cell,
            }
            if not cell["untested"]:
                yield DriftTest(
                    statistic="psi",
                    value=cell["psi"],
                    limits=limits.psi,
                    noise=cell["noise"],
                    p_value=cell["p_value"],
                    **where,
                )
            yield from _unusual_value_tests(cell, limits, where)


def _unusual_value_tests(cell: Entry, limits: Drift, where: Entry) -> Iterator[DriftTest]:
    """Missing values, more or fewer; more unknown ones; numbers beyond those of training; fewer fresh sequences.

    Of a column that grows with the history of the log fewer values are missing without any change.
    """
    for name, p_value in cell["p_values"].items():
        if name == "out_of_range" and cell["untested"]:
            continue
        then, now = cell[name]
        value = relative_fall(then, now) if name == "fresh" else now - then
        value = abs(value) if name == "missing" and not cell["grows"] else value
        noise = cell.get(f"{name}_noise", 0.0)
        yield DriftTest(
            statistic=name, value=value, limits=getattr(limits, name), noise=noise, p_value=p_value, **where
        )


def _mix_test(comparison: Entry, limits: Drift) -> DriftTest:
    mix = comparison["mix"]
    mix.update(verdict=None, corrected_p_values={})
    return DriftTest(
        statistic="mix",
        value=mix["psi"],
        limits=limits.mix,
        noise=mix["noise"],
        p_value=mix["p_value"],
        entry=mix,
        scenario=mix["linf_bin"],
        enough_rows=mix["enough_rows"],
    )


def _volume_tests(comparison: Entry, limits: Drift) -> Iterator[DriftTest]:
    for entry in comparison["volume"]["scenarios"]:
        entry.update(verdict=None, corrected_p_values={})
        if entry["enough_rows"]:
            yield DriftTest(
                statistic="volume",
                value=abs(entry["change"]),
                limits=limits.volume,
                noise=entry["noise"],
                p_value=entry["p_value"],
                entry=entry,
                scenario=entry["scenario"],
            )


def _label_tests(comparison: Entry, limits: Drift) -> Iterator[DriftTest]:
    for entry in comparison["labels"]:
        entry.update(verdict=None, corrected_p_values={})
        if "is_number" in entry:
            yield from _target_tests(entry, limits)
        elif entry["rate"] is not None and entry["reference_rate"]:
            usual = entry["reference_rate"]
            yield DriftTest(
                statistic="label_rate",
                value=abs(entry["rate"] / usual - 1),
                limits=limits.label_rate,
                noise=max(usual - entry["low"], entry["high"] - usual) / usual,
                p_value=entry["p_value"],
                entry=entry,
                scenario=entry["scenario"],
                task=entry["task"],
                enough_rows=entry["enough_rows"],
            )


def _target_tests(entry: Entry, limits: Drift) -> Iterator[DriftTest]:
    """The mean of a regression target, and its distribution."""
    if entry["rate"] is None:
        return
    where = {"entry": entry, **{name: entry[name] for name in ("scenario", "task", "enough_rows")}}
    usual, scale = entry["reference_rate"], entry["scale"]
    if scale > 0:
        yield DriftTest(
            statistic="label_rate",
            value=abs(entry["rate"] - usual) / scale,
            limits=limits.label_rate,
            noise=(entry["high"] - usual) / scale,
            p_value=entry["p_value"],
            **where,
        )
    yield DriftTest(
        statistic="label_shift",
        value=entry["psi"],
        limits=limits.psi,
        noise=entry["noise"],
        p_value=entry["psi_p_value"],
        **where,
    )


def _score_tests(comparison: Entry, limits: Drift) -> Iterator[DriftTest]:
    for entry in comparison["scores"]:
        entry.update(verdict=None, calibration_verdict=None, corrected_p_values={})
        where = {
            "scenario": entry["scenario"],
            "task": entry["task"],
            "entry": entry,
            "enough_rows": min(entry["rows"], entry["reference_rows"]) >= limits.fewest_rows,
        }
        yield DriftTest(
            statistic="score",
            value=entry["psi"],
            limits=limits.score,
            noise=entry["noise"],
            p_value=entry["p_value"],
            **where,
        )
        if entry["ratio"]:
            factor = entry["ratio"] / entry["reference_ratio"]
            yield DriftTest(
                statistic="calibration",
                value=max(factor, 1 / factor),
                limits=limits.calibration,
                noise=1.0,
                p_value=entry["calibration_p_value"],
                **where,
            )


def _auc_tests(comparison: Entry, limits: Drift) -> Iterator[DriftTest]:
    for entry in comparison["performance"]:
        entry.update(verdict=None, corrected_p_values={})
        if entry["fall"] is not None:
            yield DriftTest(
                statistic="ranking",
                value=entry["fall"],
                limits=limits.ranking,
                noise=entry["noise"],
                p_value=entry["p_value"],
                entry=entry,
                scenario=entry["scenario"],
                task=entry["task"],
                enough_rows=min(entry["rows"], entry["reference_rows"]) >= limits.fewest_rows,
            )
