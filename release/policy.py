"""The gate of a release: numbers in, a verdict in sentences out. Pure: it reads nothing and changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.params import Release
from models.evaluation.accuracy import Interval


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A scenario and task: the challenger's metric, and what it has over the champion's, if there is one."""

    name: str
    challenger: float
    champion: float | None = None
    gain: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the challenger came to on the rows of the window, and what it is to be held against.

    `gain` is the challenger's mean over the cells less the champion's; without a champion, less `chance`, the mean of
    who knows nothing. `calibration` is predicted over observed, by cell. `same` says that the champion has the same
    weights, so that there is nothing to gain.
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
    """One thing that a challenger is held to, whether it holds, and the sentence that says so with its numbers."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says: it is open if every rule holds."""

    rules: tuple[Rule, ...]

    @property
    def passed(self) -> bool:
        """Whether the challenger may become the champion."""
        return all(rule.passed for rule in self.rules)

    @property
    def failed(self) -> tuple[Rule, ...]:
        """The rules that do not hold."""
        return tuple(rule for rule in self.rules if not rule.passed)

    def told(self) -> str:
        """What a person reads: one sentence a line, what failed first."""
        ordered = sorted(self.rules, key=lambda rule: rule.passed)
        lines = (f"  {'ok' if rule.passed else 'NO':3} {rule.sentence}" for rule in ordered)
        return "\n".join(["the gate is open" if self.passed else "the gate is closed", *lines])

    def plain(self) -> dict[str, Any]:
        """The verdict as JSON has it."""
        return {"passed": self.passed, "rules": [asdict(rule) for rule in self.rules]}


def judge(figures: Figures, equalities: Sequence[Rule], settings: Release) -> Verdict:
    """Hold a challenger to the mean, to every cell, to its calibration and to what is served being what was trained."""
    rules = (_mean(figures, settings), *_cells(figures, settings), *_calibration(figures, settings), *equalities)
    return Verdict(rules=rules)


def _mean(figures: Figures, settings: Release) -> Rule:
    gain, least = figures.gain, settings.minimum_gain
    against = f"the champion {figures.champion}" if figures.champion else f"chance ({figures.chance:.4f})"
    told = f"mean of the cells on {figures.rows:,} rows: {figures.mean:.4f}, {_signed(gain)} against {against}"
    if figures.same:
        return Rule(name="mean", passed=True, sentence=f"{told}: the same weights in another bento")
    passed = gain.low > least
    reason = "" if passed else f": expected the lower end above {least:+.4f}, it lacks {least - gain.low:.4f}"
    return Rule(name="mean", passed=passed, sentence=told + reason)


def _cells(figures: Figures, settings: Release) -> Iterator[Rule]:
    """A cell fails where its loss is beyond the guard and its interval leaves no doubt that there is a loss."""
    for cell in figures.cells:
        if cell.gain is None or cell.champion is None:
            continue
        told = f"{cell.name}: {cell.challenger:.4f} against {cell.champion:.4f}, {_signed(cell.gain)}"
        worse = cell.gain.value < -settings.guard and cell.gain.high < 0
        reason = f": worse by {-cell.gain.value:.4f}, beyond the guard of {settings.guard:g}" if worse else ""
        yield Rule(name=f"cell {cell.name}", passed=not worse, sentence=told + reason)


def _calibration(figures: Figures, settings: Release) -> Iterator[Rule]:
    """A cell fails where the whole interval of predicted over observed is outside the band."""
    low, high = 1 / settings.calibration, settings.calibration
    for name, ratio in figures.calibration.items():
        told = f"{name}: predicted over observed {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        outside = ratio.high < low or ratio.low > high
        by = max(low - ratio.high, ratio.low - high)
        reason = f": outside {low:.3f} to {high:.3f}, without a doubt by {by:.3f}" if outside else ""
        yield Rule(name=f"calibration {name}", passed=not outside, sentence=told + reason)


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
