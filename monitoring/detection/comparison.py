"""The current window against the reference: every column in every scenario, the scenario mix and the label rates."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.params import Drift
from features.encoding.histograms import Days, Histograms
from features.engine.feature_views import history_days
from features.schema import Schema, View
from monitoring.detection import noise_band, statistics
from monitoring.detection.column_comparison import ColumnInScenario, Periods, over_scenarios
from monitoring.detection.statistics import Rate, compare_rates, overdispersion, shares
from monitoring.detection.target_shift import compare_targets
from monitoring.detection.volume import compare_volume

Counts = NDArray[np.int64]
Entry = dict[str, Any]


def compare_windows(
    reference: Histograms,
    current: Histograms,
    schema: Schema,
    limits: Drift,
    *,
    views: tuple[View, ...],
    importance: dict[str, float] | None = None,
    days: Days | None = None,
    served: bool = False,
) -> Entry:
    """The sections `mix`, `volume`, `columns` and `labels` of the comparison of two windows.

    Args:
        reference: histograms of the training rows.
        current: histograms of the window, on the same bins.
        schema: declaration of the data set.
        limits: the section `drift` of params.yaml.
        views: the views of the statistics.
        importance: of each column for the model.
        days: the days that the window was to have; None: those from its first row to its last.
        served: the window is a sample of the requests of the service.
    """
    fewest = limits.fewest_rows
    comparison = Comparison(reference, current, fewest=fewest, history_days=history_days(schema, views))
    return {
        "mix": comparison.mix(schema),
        "volume": compare_volume(reference, current, days, fewest=fewest, served=served),
        "columns": comparison.columns(schema, importance or {}),
        "labels": list(comparison.labels(schema)),
    }


class Comparison:
    """Two windows on the same bins; scenarios with fewer than `fewest` rows in one of them are not tested.

    `history_days`: the days of the past that each statistic is computed over (features.engine.feature_views).
    """

    def __init__(
        self,
        reference: Histograms,
        current: Histograms,
        *,
        fewest: int,
        history_days: Mapping[str, int],
    ) -> None:
        self.reference, self.current = reference, current
        self.gap_days = max((current.first_day - reference.last_day).days - 1, 0)
        period = reference.period_days
        length = max(round(len(current.rows) / period), 1)
        self.windows = Periods(
            reference=reference,
            current=current,
            length=length,
            gap=self.gap_days // period,
            fewest=fewest,
            history_days=history_days,
        )

    def columns(self, schema: Schema, importance: dict[str, float]) -> list[Entry]:
        """An entry per histogram, with all scenarios; the column of the scenario is the mix."""
        return [
            {
                "column": bins.name,
                "kind": "numeric" if bins.numeric else str(bins.kind),
                "source": source_of(bins.column, schema),
                "importance": importance.get(bins.column),
                "bins": bins.labels,
                "whole": over_scenarios(self.windows, bins),
                "scenarios": {
                    name: ColumnInScenario(self.windows, bins, scenario).entry()
                    for scenario, name in enumerate(schema.scenarios)
                },
            }
            for bins in self.reference.bins
            if bins.column != schema.scenario
        ]

    def mix(self, schema: Schema) -> Entry:
        """The shares of the scenarios."""
        now, then = self.current.rows.sum(axis=0), self.reference.rows.sum(axis=0)
        step = self.reference.period_days
        periods = np.add.reduceat(self.reference.rows, np.arange(0, len(self.reference.rows), step), axis=0)
        noise = noise_band.measure_noise(periods, length=self.windows.length, gap=self.windows.gap)
        value = statistics.psi(now, then)
        moved, moved_scenario = statistics.largest_move(now, then)
        columns = zip(schema.scenarios, shares(then), shares(now), then, now, strict=True)
        return {
            "psi": value,
            "noise": noise_band.band(noise, now, then),
            "p_value": noise_band.p_value(value, noise, now, then),
            "linf": moved,
            "linf_bin": schema.scenarios[moved_scenario],
            "enough_rows": bool(min(now.sum(), then.sum()) >= self.windows.fewest),
            "histories": {"mix": list(noise.history)},
            "scenarios": [
                {
                    "scenario": name,
                    "reference_share": float(q),
                    "current_share": float(p),
                    "reference_rows": int(m),
                    "current_rows": int(n),
                }
                for name, q, p, m, n in columns
            ],
        }

    def labels(self, schema: Schema) -> Iterator[Entry]:
        """The rate (of a number: the mean) of every task in every scenario against that of the same weekdays."""
        weekdays = {day.weekday() for day, rows in zip(self.current.days, self.current.rows, strict=True) if rows.any()}
        for index, scenario in enumerate(schema.scenarios):
            for task in self.reference.labels:
                yield {"scenario": scenario, "task": task, **self._label(task, index, weekdays)}
            for task in (task for task in self.reference.targets if task in self.current.targets):
                yield {"scenario": scenario, "task": task, **self._target(task, index, weekdays)}

    def _target(self, task: str, scenario: int, weekdays: set[int]) -> Entry:
        reference, current = self.reference.targets[task], self.current.targets[task]
        kept, same_weekday = self._same_weekdays(reference.daily[:, scenario], weekdays)
        entry = compare_targets(
            reference,
            current,
            scenario,
            days=kept,
            length=len(self.current.rows),
            gap=self.gap_days,
            period_days=self.reference.period_days,
        )
        rows = entry["rows"], int(reference.daily[kept, scenario, 0].sum())
        return entry | {"same_weekday": same_weekday, "enough_rows": min(rows) >= self.windows.fewest}

    def _label(self, task: str, scenario: int, weekdays: set[int]) -> Entry:
        rows, positives = self.current.labels[task][:, scenario].sum(axis=0)
        days = self.reference.labels[task][:, scenario]
        spread = overdispersion(days[:, 1], days[:, 0])
        kept, same_weekday = self._same_weekdays(days, weekdays)
        reference_rows, reference_positives = days[kept].sum(axis=0)
        test = compare_rates(positives, rows, reference_positives, reference_rows, spread=spread)
        rate = test or Rate(*[np.nan] * 5)
        return {
            "rows": int(rows),
            "positives": int(positives),
            "rate": _number(rate.value),
            "reference_rate": _number(rate.expected),
            "low": _number(rate.low),
            "high": _number(rate.high),
            "p_value": _number(rate.p_value),
            "same_weekday": same_weekday,
            "enough_rows": bool(min(rows, reference_rows) >= self.windows.fewest),
            "histories": {"label_rate": self._rate_changes(days)},
        }

    def _same_weekdays(self, days: Counts, weekdays: set[int]) -> tuple[NDArray[np.bool_], bool]:
        """The days [D] of the reference on `weekdays`, and True; all days, and False, where one of them has no rows.

        `days` [D, ..] have the observed rows of each day first.
        """
        same = np.array([day.weekday() in weekdays for day in self.reference.days])
        observed = zip(self.reference.days, same, days, strict=True)
        present = {day.weekday() for day, kept, row in observed if kept and row[0]}
        return (same, True) if present == weekdays else (np.ones(len(days), bool), False)

    def _rate_changes(self, days: Counts) -> list[float]:
        """Relative changes of the rate inside the reference, from observed rows and positives by day [D, 2]."""
        pairs = noise_band.reference_pairs(days, length=len(self.current.rows), gap=self.gap_days)
        rates = [(now[1] / now[0], before[1] / before[0]) for now, before in pairs if now[0] and before[1]]
        return [round(float(abs(now / before - 1)), 6) for now, before in rates]


def source_of(column: str, schema: Schema) -> str:
    """The source of a column's values: impression, profile or statistics."""
    if column in {one.name for one in schema.events}:
        return "impression"
    profile = {one.name for table in ("users", "items") for one in schema.profile(table)}
    return "profile" if column in profile else "statistics"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
