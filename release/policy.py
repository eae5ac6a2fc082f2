"""The promotion policy: metrics in, a verdict in sentences out. It reads nothing and changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.serve_params import Release
from models.evaluation.accuracy import Interval


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A scenario and task: the challenger's metric, and its gain over the champion's, if there is a champion."""

    name: str
    challenger: float
    champion: float | None = None
    gain: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class ChallengerMetrics:
    """The metrics of a challenger on the rows of the window, beside those of the champion.

    `mean` is that of the cells; `gain` is the mean less the champion's, or less `chance` (the mean of a model without
    any knowledge) where there is no champion. `calibration` is predicted over observed, by cell. `same`: the
    champion has the same weights, so that no gain is possible.
    """

    rows: int
    mean: float
    champion: str | None
    chance: float
    gain: Interval
    cells: tuple[Cell, ...]
    calibration: dict[str, Interval]
    same: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of the policy: whether the challenger meets it, and a sentence with the numbers."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on a challenger, which is accepted if every rule passed."""

    rules: tuple[Rule, ...]

    @property
    def passed(self) -> bool:
        """Whether the challenger may become the champion."""
        return all(rule.passed for rule in self.rules)

    @property
    def failed(self) -> tuple[Rule, ...]:
        """The rules that failed."""
        return tuple(rule for rule in self.rules if not rule.passed)

    def summary(self) -> str:
        """The decision and one sentence a line, failed rules first."""
        ordered = sorted(self.rules, key=lambda rule: rule.passed)
        lines = (f"  {'ok' if rule.passed else 'NO':3} {rule.sentence}" for rule in ordered)
        return "\n".join(["accepted" if self.passed else "rejected", *lines])

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON document."""
        return {"passed": self.passed, "rules": [asdict(rule) for rule in self.rules]}


def decide(metrics: ChallengerMetrics, parity: Sequence[Rule], settings: Release) -> Verdict:
    """Apply the policy: the mean, every cell, the calibration, and the training/serving parity checks."""
    rules = (_mean(metrics, settings), *_cells(metrics, settings), *_calibration(metrics, settings), *parity)
    return Verdict(rules=rules)


def _mean(metrics: ChallengerMetrics, settings: Release) -> Rule:
    gain, least = metrics.gain, settings.minimum_gain
    baseline = f"the champion {metrics.champion}" if metrics.champion else f"chance ({metrics.chance:.4f})"
    text = f"mean of the cells on {metrics.rows:,} rows: {metrics.mean:.4f}, {_signed(gain)} against {baseline}"
    if metrics.same:
        return Rule(name="mean", passed=True, sentence=f"{text}: the same weights in another bento")
    passed = gain.low > least
    reason = "" if passed else f": expected the lower end above {least:+.4f}, it lacks {least - gain.low:.4f}"
    return Rule(name="mean", passed=passed, sentence=text + reason)


def _cells(metrics: ChallengerMetrics, settings: Release) -> Iterator[Rule]:
    """A cell fails where its loss is beyond the guard and its whole interval is below zero."""
    for cell in metrics.cells:
        if cell.gain is None or cell.champion is None:
            continue
        text = f"{cell.name}: {cell.challenger:.4f} against {cell.champion:.4f}, {_signed(cell.gain)}"
        worse = cell.gain.value < -settings.guard and cell.gain.high < 0
        reason = f": worse by {-cell.gain.value:.4f}, beyond the guard of {settings.guard:g}" if worse else ""
        yield Rule(name=f"cell {cell.name}", passed=not worse, sentence=text + reason)


def _calibration(metrics: ChallengerMetrics, settings: Release) -> Iterator[Rule]:
    """A cell fails where the whole interval of predicted over observed is outside the band."""
    low, high = 1 / settings.calibration, settings.calibration
    for name, ratio in metrics.calibration.items():
        text = f"{name}: predicted over observed {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        outside = ratio.high < low or ratio.low > high
        distance = max(low - ratio.high, ratio.low - high)
        reason = f": outside {low:.3f} to {high:.3f}, its whole interval by {distance:.3f}" if outside else ""
        yield Rule(name=f"calibration {name}", passed=not outside, sentence=text + reason)


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
