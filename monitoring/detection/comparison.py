"""The current window against the reference: every column in every scenario, the mix and the labels. No verdict yet."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from features.encoding.bins import BELOW, MISSING, OTHER, UNKNOWN, Bins, Measure
from features.encoding.histograms import Histograms
from features.schema import Schema
from monitoring.detection import noise_band as noises
from monitoring.detection import statistics
from monitoring.detection.noise_band import Noise, noise_of
from monitoring.detection.statistics import Rate, overdispersion, rate, shares

Counts = NDArray[np.int64]
Entry = dict[str, Any]
MILLION = 1e6
YOUNG = slice(BELOW, BELOW + 2)  # of an age: the least that training has seen, and less
RARE = 0.001  # share of a bin that counts as never seen
UNDONE = 0.3  # what may be left of a difference when two exchanged categories are put right


class Comparison:
    """Two windows on the same bins; `gap` is how many days lie between them."""

    def __init__(self, reference: Histograms, current: Histograms, *, fewest: int) -> None:
        self.reference, self.current, self.fewest = reference, current, fewest
        period = reference.period_days
        self.length = max(round(len(current.rows) / period), 1)
        self.gap = max((current.first_day - reference.last_day).days - 1, 0) // period

    def noise(self, periods: Counts) -> Noise:
        """Of counts by period [P, bins] of the reference, for a window as the current one."""
        return noise_of(periods, length=self.length, gap=self.gap)

    def columns(self, schema: Schema, importance: dict[str, float]) -> list[Entry]:
        """An entry per histogram, with all scenarios."""
        return [
            {
                "column": bins.name,
                "kind": "numeric" if bins.numeric else str(bins.kind),
                "source": source_of(bins.column, schema),
                "importance": importance.get(bins.column),
                "bins": bins.labels,
                "whole": self.whole(bins),
                "scenarios": {name: self.cell(bins, place) for place, name in enumerate(schema.scenarios)},
            }
            for bins in self.reference.bins
            if bins.column != schema.scenario  # that is the mix
        ]

    def cell(self, bins: Bins, place: int) -> Entry:
        """One column in one scenario."""
        now, then = (comparable(bins, window.of(bins.name)[place]) for window in (self.current, self.reference))
        periods = self.reference.counts[bins.name][:, place]
        noise = self.noise(comparable(bins, periods))
        value = statistics.psi(now, then)
        moved, where = statistics.largest_move(now, then)
        rows = int(self.current.rows[:, place].sum()), int(self.reference.rows[:, place].sum())
        ages = bins.measure is Measure.AGE
        return {
            "rows": rows[0],
            "reference_rows": rows[1],
            "enough_rows": min(rows) >= self.fewest,
            "psi": value,
            "noise": noises.band(noise, now, then),
            "p_value": noises.p_value(value, noise, now, then),
            "js": statistics.js_distance(now, then),
            "wasserstein": self._wasserstein(bins, place) if bins.numeric else None,
            "linf": moved,
            "linf_bin": bins.labels[where],
            "missing": self._share(bins, place, [MISSING]),
            "unknown": None if bins.numeric else self._share(bins, place, [UNKNOWN]),
            "out_of_range": [0.0, beyond(self.current.of(bins.name)[place], self.reference.of(bins.name)[place])]
            if bins.numeric
            else None,
            "out_of_range_noise": self._noise(beyond, periods) if bins.numeric else None,
            "fresh": self._fresh(bins, place) if ages else None,
            "fresh_noise": self._noise(aged, periods) if ages else None,
            "effective_values": self._effective(bins, place),
            "commonest": None if bins.numeric else self._share(bins, place, list(range(OTHER + 1, bins.count))),
            "scale": self._scale(bins, place) if bins.numeric else None,
            "p_values": self._p_values(bins, place),
            "swapped": None if bins.numeric else _swapped(bins, now, then, value),
            "reference": _plain(shares(then)),
            "current": _plain(shares(now)),
            "histories": {"psi": [round(seen, 6) for seen in noise.history]} | self._histories(bins, periods),
        }

    def _histories(self, bins: Bins, periods: Counts) -> dict[str, list[float]]:
        """The shares of unusual values, put to the days of the reference as to the current window."""
        pairs = noises.pairs(periods, length=self.length, gap=self.gap)
        moved = [shares(now) - shares(before) for now, before in pairs]
        found = {"missing": _plain(np.abs([move[MISSING] for move in moved]))}
        if bins.numeric:
            found["out_of_range"] = [round(beyond(now, before), 6) for now, before in pairs]
            if bins.measure is Measure.AGE:
                found["fresh"] = [round(aged(now, before), 6) for now, before in pairs]
            return found
        return found | {"unknown": _plain(np.array([move[UNKNOWN] for move in moved]))}

    def whole(self, bins: Bins) -> Entry:
        """All scenarios, weighed as in the reference: what is left of a difference when the mix is taken out."""
        weights = shares(self.reference.rows.sum(axis=0))
        counts = (comparable(bins, window.of(bins.name)) for window in (self.current, self.reference))
        now, then = (np.round(weights @ shares(held) * held.sum()).astype(np.int64) for held in counts)
        apart = [self._wasserstein(bins, place) if bins.numeric else None for place in range(len(weights))]
        told = [(value, weight) for value, weight in zip(apart, weights, strict=True) if value is not None]
        mean = sum(value * weight for value, weight in told) / sum(weight for _, weight in told) if told else None
        return {"psi": statistics.psi(now, then), "js": statistics.js_distance(now, then), "wasserstein": mean}

    def mix(self, schema: Schema) -> Entry:
        """The shares of the scenarios."""
        now, then = self.current.rows.sum(axis=0), self.reference.rows.sum(axis=0)
        step = self.reference.period_days
        periods = np.add.reduceat(self.reference.rows, np.arange(0, len(self.reference.rows), step), axis=0)
        noise, value = self.noise(periods), statistics.psi(now, then)
        moved, where = statistics.largest_move(now, then)
        columns = zip(schema.scenarios, shares(then), shares(now), then, now, strict=True)
        return {
            "psi": value,
            "noise": noises.band(noise, now, then),
            "p_value": noises.p_value(value, noise, now, then),
            "linf": moved,
            "linf_bin": schema.scenarios[where],
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
        """The rate of every task in every scenario against that of the same weekdays."""
        weekdays = {day.weekday() for day, rows in zip(self.current.days, self.current.rows, strict=True) if rows.any()}
        for place, scenario in enumerate(schema.scenarios):
            for task in self.reference.labels:
                yield {"scenario": scenario, "task": task, **self._label(task, place, weekdays)}

    def _label(self, task: str, place: int, weekdays: set[int]) -> Entry:
        (rows, hits), then = self.current.labels[task][:, place].sum(axis=0), self.reference.labels[task][:, place]
        spread = overdispersion(then[:, 1], then[:, 0])
        same = np.array([day.weekday() in weekdays for day in self.reference.days])
        alike = {
            day.weekday() for day, kept, row in zip(self.reference.days, same, then, strict=True) if kept and row[0]
        } == weekdays
        then = then[same] if alike else then
        found = rate(hits, rows, then[:, 1].sum(), then[:, 0].sum(), spread=spread)
        told = found or Rate(*[np.nan] * 5)
        return {
            "rows": int(rows),
            "positives": int(hits),
            "rate": _number(told.value),
            "reference_rate": _number(told.expected),
            "low": _number(told.low),
            "high": _number(told.high),
            "p_value": _number(told.p_value),
            "same_weekday": bool(alike),
            "enough_rows": bool(min(rows, then[:, 0].sum()) >= self.fewest),
            "histories": {"label_rate": self._changes(self.reference.labels[task][:, place])},
        }

    def _changes(self, days: Counts) -> list[float]:
        """By what share a rate differed from that of the days before; observed rows and positives by day [D, 2]."""
        gap = max((self.current.first_day - self.reference.last_day).days - 1, 0)
        pairs = noises.pairs(days, length=len(self.current.rows), gap=gap)
        rates = [(now[1] / now[0], before[1] / before[0]) for now, before in pairs if now[0] and before[1]]
        return [round(float(abs(now / before - 1)), 6) for now, before in rates]

    def _p_values(self, bins: Bins, place: int) -> dict[str, float]:
        """Of the shares of unusual values, each with the spread that it has from period to period."""
        which = {"missing": [MISSING], **({} if bins.numeric else {"unknown": [UNKNOWN]})}
        tests = {name: self._share_test(bins, place, unusual) for name, unusual in which.items()}
        found = {name: 1.0 if test is None else test.p_value for name, test in tests.items()}
        found |= {"out_of_range": self._p_beyond(bins, place)} if bins.numeric else {}
        return found | ({"fresh": self._p_fresh(bins, place)} if bins.measure is Measure.AGE else {})

    def _p_beyond(self, bins: Bins, place: int) -> float:
        """Of so many numbers beyond training or more, if the share were that of the reference's worst window."""
        now, then = self.current.of(bins.name)[place], self.reference.of(bins.name)[place]
        usual = max(self._noise(beyond, self.reference.counts[bins.name][:, place]), RARE)
        return float(stats.binom.sf(round(beyond(now, then) * now.sum()) - 1, int(now.sum()), min(usual, 1.0)))

    def _noise(self, moved: Callable[[Counts, Counts], float], periods: Counts) -> float:
        """By how much a window of the reference had `moved` from the days before it, at most."""
        pairs = noises.pairs(periods, length=self.length, gap=self.gap)
        return noises.MARGIN * max((moved(now, before) for now, before in pairs), default=0.0)

    def _p_fresh(self, bins: Bins, place: int) -> float:
        """Of so few of the youngest values or fewer, if their share had fallen as in the reference's worst window."""
        now, then = self.current.of(bins.name)[place], self.reference.of(bins.name)[place]
        least = fresh(then) * (1 - min(self._noise(aged, self.reference.counts[bins.name][:, place]), 1.0))
        return float(stats.binom.cdf(now[YOUNG].sum(), now[BELOW:].sum(), least))

    def _share_test(self, bins: Bins, place: int, which: list[int]) -> Rate | None:
        now, then = self.current.of(bins.name)[place], self.reference.counts[bins.name][:, place]
        of_periods = then[:, which].sum(axis=1), then.sum(axis=1)
        spread = overdispersion(*of_periods)
        return rate(now[which].sum(), now.sum(), of_periods[0].sum(), of_periods[1].sum(), spread=spread)

    def _share(self, bins: Bins, place: int, which: list[int]) -> list[float]:
        both = self.reference.of(bins.name)[place], self.current.of(bins.name)[place]
        return [float(shares(counts)[which].sum()) for counts in both]

    def _fresh(self, bins: Bins, place: int) -> list[float]:
        return [fresh(window.of(bins.name)[place]) for window in (self.reference, self.current)]

    def _effective(self, bins: Bins, place: int) -> list[float | None] | None:
        if bins.name not in self.reference.effective:
            return None
        now = self.current.effective.get(bins.name)
        return [self.reference.effective[bins.name][place], now[place] if now else None]

    def _wasserstein(self, bins: Bins, place: int) -> float | None:
        (now, sums), (then, before) = (
            (window.of(bins.name)[place], np.array(window.sums[bins.name][place], float) / MILLION)
            for window in (self.current, self.reference)
        )
        return statistics.wasserstein(now, then, sums, before)

    def _scale(self, bins: Bins, place: int) -> list[float] | None:
        """By what factor the mean of the raw number has grown, and by what its standard deviation has."""
        now, then = (_mean_and_deviation(window.moments[bins.name][place]) for window in (self.current, self.reference))
        if now is None or then is None or not all(then):
            return None
        return [now[0] / then[0], now[1] / then[1]]


def source_of(column: str, schema: Schema) -> str:
    """impression, profile or statistics: where the values of a column come from."""
    if column in {one.name for one in schema.events}:
        return "impression"
    profile = {one.name for table in ("users", "items") for one in schema.profile(table)}
    return "profile" if column in profile else "statistics"


def comparable(bins: Bins, counts: Counts) -> Counts:
    """Counts [..., bins] without what the training rows cannot have: bins and vocabularies were made of these rows.

    Unknown values are left out, numbers beyond the first or last bin count in it; both are judged by themselves.
    """
    folded = counts.copy()
    if bins.numeric:
        for outer, inner in ((BELOW, BELOW + 1), (bins.count - 1, bins.count - 2)):
            folded[..., inner] += counts[..., outer]
            folded[..., outer] = 0
    else:
        folded[..., UNKNOWN] = 0
    return folded


def fresh(counts: Counts) -> float:
    """Of the sequences with a value, the share whose newest is of the youngest days of training."""
    return float(counts[YOUNG].sum() / max(counts[BELOW:].sum(), 1))


def aged(now: Counts, before: Counts) -> float:
    """By what share of itself the share of the youngest sequences has fallen."""
    return fall(fresh(before), fresh(now))


def fall(before: float, now: float) -> float:
    """By what share of itself a share has fallen."""
    return max(1 - now / before, 0.0) if before else 0.0


def beyond(now: Counts, before: Counts) -> float:
    """Share of the numbers of a window that lie in bins in which the days before had hardly any."""
    rare = shares(before) < RARE
    rare[MISSING] = False
    return float(shares(now)[rare].sum())


def _swapped(bins: Bins, now: Counts, then: Counts, value: float) -> list[str] | None:
    """Two categories whose exchange undoes most of the difference, if there are such."""
    moved = shares(now) - shares(then)
    up, down = int(moved.argmax()), int(moved.argmin())
    exchanged = now.copy()
    exchanged[[up, down]] = now[[down, up]]
    undone = min(up, down) > OTHER and statistics.psi(exchanged, then) < UNDONE * value
    return [bins.labels[up], bins.labels[down]] if undone else None


def _mean_and_deviation(moments: list[int]) -> tuple[float, float] | None:
    rows, total, square = moments
    if not rows:
        return None
    mean = total / MILLION / rows
    return mean, float(np.sqrt(max(square / MILLION / rows - mean**2, 0.0)))


def _plain(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
