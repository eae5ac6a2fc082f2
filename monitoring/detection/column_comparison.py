"""One column of the current window against the reference, in one scenario and over all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from features.encoding.bins import BELOW, MISSING, OTHER, UNKNOWN, Bins, Measure
from features.encoding.histograms import Histograms
from monitoring.detection import noise_band, statistics
from monitoring.detection.growth import Growth, growth_of
from monitoring.detection.statistics import Floats, compare_rates, overdispersion, shares
from monitoring.detection.unusual_values import (
    RARE,
    YOUNG,
    Counts,
    comparable,
    fresh_fall,
    fresh_share,
    plain_shares,
    share_beyond,
    swapped_categories,
)

Entry = dict[str, Any]
MILLION = 1e6
UNTESTED = "grows with the history of the log: not tested"


@dataclass(frozen=True, kw_only=True)
class Periods:
    """The windows: current and reference, the length of the current one and the gap before it in periods."""

    reference: Histograms
    current: Histograms
    length: int
    gap: int
    fewest: int  # rows of a scenario with which it is tested
    history_days: Mapping[str, int] = field(default_factory=dict)  # of statistics, by column

    def growth(self, bins: Bins) -> Growth:
        """The growth of a column with the history of the log."""
        return growth_of(bins, self.history_days, self.reference, self.current)

    def reference_counts(self, bins: Bins) -> Counts:
        """Counts [P, S, bins] of the periods of the reference with which a column is compared."""
        return self.reference.counts[bins.name][self.growth(bins).skipped :]

    def reference_rows(self, bins: Bins) -> Counts:
        """Rows [S] of those periods."""
        rows: Counts = self.reference.rows[self.growth(bins).skipped * self.reference.period_days :].sum(axis=0)
        return rows


class ColumnInScenario:
    """One column in one scenario: its counts in both windows, and the comparisons inside the reference."""

    def __init__(self, windows: Periods, bins: Bins, scenario: int) -> None:
        self.windows, self.bins, self.scenario = windows, bins, scenario
        self.growth = windows.growth(bins)
        self.now = windows.current.of(bins.name)[scenario]
        self.periods = windows.reference_counts(bins)[:, scenario]
        self.then = self.periods.sum(axis=0)
        held_out = windows.reference.held_out.get(bins.name)
        self.held_out = held_out[scenario] if held_out else 0

    @cached_property
    def pairs(self) -> list[tuple[Counts, Counts]]:
        """Windows inside the reference and the days before each: counts [bins]."""
        return noise_band.reference_pairs(self.periods, length=self.windows.length, gap=self.windows.gap)

    def entry(self) -> Entry:
        """The column in the scenario as it is in drift.json."""
        bins, windows = self.bins, self.windows
        now, then = comparable(bins, self.now), comparable(bins, self.then)
        noise = noise_band.measure_noise(comparable(bins, self.periods), length=windows.length, gap=windows.gap)
        value = statistics.psi(now, then)
        moved, moved_bin = statistics.largest_move(now, then)
        rows = int(windows.current.rows[:, self.scenario].sum()), int(windows.reference_rows(bins)[self.scenario])
        if bins.measure is Measure.POSITION:  # of rows without one nothing is counted
            rows = int(self.now.sum()), int(self.then.sum())
        scale = self._scale() if bins.numeric else None
        explained = bins.numeric and self.growth.explains(scale[0] if scale else None)
        return {
            "rows": rows[0],
            "reference_rows": rows[1],
            "enough_rows": min(rows) >= windows.fewest,
            "grows": self.growth.bounds is not None,
            "untested": UNTESTED if explained else None,
            "psi": value,
            "noise": noise_band.band(noise, now, then),
            "p_value": noise_band.p_value(value, noise, now, then),
            "js": statistics.js_distance(now, then),
            "wasserstein": wasserstein(windows, bins, self.scenario),
            "linf": moved,
            "linf_bin": bins.labels[moved_bin],
            **self._unusual(),
            "effective_values": self._effective_values(),
            "commonest": None if bins.numeric else self._shares_of(list(range(OTHER + 1, bins.count))),
            "scale": scale,
            "p_values": self._p_values(),
            "swapped": None if bins.numeric else swapped_categories(bins, now, then, value),
            "reference": plain_shares(shares(then)),
            "current": plain_shares(shares(now)),
            "histories": {"psi": [round(distance, 6) for distance in noise.history]} | self._histories(),
        }

    def _unusual(self) -> Entry:
        """Shares of unusual values, [reference, current], and their noise."""
        numeric, aged = self.bins.numeric, self.bins.measure is Measure.AGE
        return {
            "missing": self._shares_of([MISSING]),
            "unknown": None if numeric else self._unknown(),
            "out_of_range": [0.0, share_beyond(self.now, self.then)] if numeric else None,
            "out_of_range_noise": self._noise(share_beyond) if numeric else None,
            "fresh": [fresh_share(self.then), fresh_share(self.now)] if aged else None,
            "fresh_noise": self._noise(fresh_fall) if aged else None,
        }

    def _shares_of(self, bins: list[int]) -> list[float]:
        return [float(shares(counts)[bins].sum()) for counts in (self.then, self.now)]

    def _unknown(self) -> list[float]:
        """The share of unknown values that is expected of rows which the encoder was not fitted on; the current one."""
        expected = (int(self.then[UNKNOWN]) + self.held_out) / max(int(self.then.sum()), 1)
        return [expected, float(shares(self.now)[UNKNOWN])]

    def _noise(self, distance: Callable[[Counts, Counts], float]) -> float:
        """The largest `distance` of a window inside the reference from the days before it, with the margin."""
        return noise_band.MARGIN * max((distance(now, before) for now, before in self.pairs), default=0.0)

    def _effective_values(self) -> list[float | None] | None:
        reference, current = (window.effective for window in (self.windows.reference, self.windows.current))
        if self.bins.name not in reference:
            return None
        now = current.get(self.bins.name)
        return [reference[self.bins.name][self.scenario], now[self.scenario] if now else None]

    def _scale(self) -> list[float] | None:
        """The factors by which mean and standard deviation of the raw number have grown."""
        windows = (self.windows.current, self.windows.reference)
        now, then = (_mean_and_deviation(window.power_sums[self.bins.name][self.scenario]) for window in windows)
        if now is None or then is None or not all(then):
            return None
        return [now[0] / then[0], now[1] / then[1]]

    def _p_values(self) -> dict[str, float]:
        """p-values of the shares of unusual values, each with its spread from period to period."""
        p_values = {"missing": self._p_share(MISSING)}
        if not self.bins.numeric:
            return p_values | {"unknown": self._p_share(UNKNOWN)}
        p_values["out_of_range"] = self._p_beyond()
        return p_values | ({"fresh": self._p_fresh()} if self.bins.measure is Measure.AGE else {})

    def _p_share(self, unusual: int) -> float:
        positives, rows = self.periods[:, [unusual]].sum(axis=1), self.periods.sum(axis=1)
        spread = overdispersion(positives, rows)
        expected = positives.sum() + (self.held_out if unusual == UNKNOWN else 0)
        test = compare_rates(self.now[unusual], self.now.sum(), expected, rows.sum(), spread=spread)
        return 1.0 if test is None else test.p_value

    def _p_beyond(self) -> float:
        """P(as many numbers beyond training or more), if their share were that of the reference's worst window."""
        usual = max(self._noise(share_beyond), RARE)
        rows = int(self.now.sum())
        positives = round(share_beyond(self.now, self.then) * self.now.sum())
        return float(stats.binom.sf(positives - 1, rows, min(usual, 1.0)))

    def _p_fresh(self) -> float:
        """P(as few fresh sequences or fewer), if their share had fallen as in the reference's worst window."""
        least = fresh_share(self.then) * (1 - min(self._noise(fresh_fall), 1.0))
        return float(stats.binom.cdf(self.now[YOUNG].sum(), self.now[BELOW:].sum(), least))

    def _histories(self) -> dict[str, list[float]]:
        """The shares of unusual values in the comparisons inside the reference."""
        moves = [shares(now) - shares(before) for now, before in self.pairs]
        histories = {"missing": plain_shares(np.abs([move[MISSING] for move in moves]))}
        if not self.bins.numeric:
            return histories | {"unknown": plain_shares(np.array([move[UNKNOWN] for move in moves]))}
        histories["out_of_range"] = [round(share_beyond(now, before), 6) for now, before in self.pairs]
        if self.bins.measure is Measure.AGE:
            histories["fresh"] = [round(fresh_fall(now, before), 6) for now, before in self.pairs]
        return histories


def over_scenarios(windows: Periods, bins: Bins) -> Entry:
    """The distances over all scenarios, weighted as in the reference: without the effect of their mix."""
    weights = shares(windows.reference.rows.sum(axis=0))
    both = (windows.current.of(bins.name), windows.reference_counts(bins).sum(axis=0))
    counts = (comparable(bins, by_scenario) for by_scenario in both)
    now, then = (np.round(weights @ shares(by_scenario) * by_scenario.sum()).astype(np.int64) for by_scenario in counts)
    distances = [wasserstein(windows, bins, scenario) for scenario in range(len(weights))]
    known = [(value, weight) for value, weight in zip(distances, weights, strict=True) if value is not None]
    mean = sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
    return {"psi": statistics.psi(now, then), "js": statistics.js_distance(now, then), "wasserstein": mean}


def wasserstein(windows: Periods, bins: Bins, scenario: int) -> float | None:
    """The Wasserstein distance of a number in a scenario; None for categories."""
    if not bins.numeric:
        return None
    (now, sums), (then, reference_sums) = (
        (window.of(bins.name)[scenario], _sums(window, bins, scenario))
        for window in (windows.current, windows.reference)
    )
    return statistics.wasserstein(now, then, sums, reference_sums)


def _sums(window: Histograms, bins: Bins, scenario: int) -> Floats:
    return np.array(window.sums[bins.name][scenario], float) / MILLION


def _mean_and_deviation(power_sums: list[int]) -> tuple[float, float] | None:
    rows, total, square = power_sums
    if not rows:
        return None
    mean = total / MILLION / rows
    return mean, float(np.sqrt(max(square / MILLION / rows - mean**2, 0.0)))
