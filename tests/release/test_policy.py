"""The gate of a release: what opens it, what closes it, and that it says where and by how much."""

import numpy as np
import pytest
import scipy.special

from common.serve_params import Release
from features.schema import Schema
from models.evaluation.accuracy import Interval
from models.evaluation.delong import estimate_cells, mean
from release.policy import Cell, Figures, Rule, Verdict, judge
from tests.support import world

SETTINGS = Release(
    confidence=0.95, minimum_gain=0.0, guard=0.01, calibration=1.25, sample=200, keep=5, branch="release"
)
SCHEMA: Schema = world.schema()
TASKS, NAMES = SCHEMA.tasks, SCHEMA.scenarios


def interval(low: float, high: float) -> Interval:
    """An interval around its middle."""
    return Interval(value=(low + high) / 2, low=low, high=high)


def figures(**changes: object) -> Figures:
    """A challenger that passes, with changes."""
    cell = Cell(name="feed/click", challenger=0.8, champion=0.78, gain=interval(0.01, 0.03))
    plain = {
        "rows": 1000,
        "mean": 0.8,
        "champion": "old",
        "chance": 0.5,
        "gain": interval(0.01, 0.03),
        "cells": (cell,),
        "calibration": {"feed/click": interval(0.9, 1.1)},
    }
    return Figures(**plain | changes)


def failed(found: Verdict) -> list[str]:
    """The names of the rules that do not hold."""
    return [rule.name for rule in found.failed]


def test_who_is_better_everywhere_passes() -> None:
    """Every rule holds, and each says its numbers."""
    found = judge(figures(), [Rule(name="encoder", passed=True, sentence="the same")], SETTINGS)
    assert found.passed
    assert [rule.name for rule in found.rules] == ["mean", "cell feed/click", "calibration feed/click", "encoder"]
    assert "+0.0200 (+0.0100 to +0.0300) against the champion old" in found.told()


@pytest.mark.parametrize("low", [-0.01, 0.0])
def test_a_gain_within_its_interval_is_none(low: float) -> None:
    """The lower end has to be above the minimum gain: at it is not enough. The sentence says by how much it lacks."""
    found = judge(figures(gain=interval(low, 0.03)), [], SETTINGS)
    assert failed(found) == ["mean"]
    assert f"it lacks {abs(low):.4f}" in found.told()


def test_a_negative_minimum_gain_asks_for_not_worse() -> None:
    """For a daily model that has to be fresh rather than better."""
    found = judge(figures(gain=interval(-0.002, 0.003)), [], SETTINGS.model_copy(update={"minimum_gain": -0.005}))
    assert found.passed


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [(-0.04, -0.02, False), (-0.08, 0.02, True), (-0.006, -0.002, True), (0.0, 0.2, True)],
)
def test_a_cell_fails_beyond_guard_and_interval(low: float, high: float, passes: bool) -> None:
    """A loss that may be none is no reason, a certain one within the guard neither."""
    cell = Cell(name="feed/order", challenger=0.7, champion=0.73, gain=interval(low, high))
    found = judge(figures(cells=(cell,)), [], SETTINGS)
    assert found.passed == passes
    if not passes:
        assert "feed/order: 0.7000 against 0.7300" in found.told()
        assert "worse by 0.0300, beyond the guard of 0.01" in found.told()


@pytest.mark.parametrize(
    ("low", "high", "passes"), [(1.2, 1.4, True), (1.26, 1.4, False), (0.5, 0.79, False), (0.5, 0.81, True)]
)
def test_calibration_fails_where_all_of_its_interval_is_outside(low: float, high: float, passes: bool) -> None:
    """The band is 1 / 1.25 to 1.25; the sentence names the cell and the band."""
    found = judge(figures(calibration={"search/click": interval(low, high)}), [], SETTINGS)
    assert found.passed == passes
    assert ("outside 0.800 to 1.250" in found.told()) != passes


def test_one_equality_that_does_not_hold_closes_the_gate() -> None:
    """However good the figures."""
    found = judge(figures(), [Rule(name="answers", passed=False, sentence="not so for 3")], SETTINGS)
    assert failed(found) == ["answers"]
    assert found.told().splitlines()[1] == "  NO  not so for 3"


def test_the_first_release_is_held_to_chance() -> None:
    """Without a champion the mean has to be above that of who knows nothing, and no cell is compared."""
    cell = Cell(name="feed/click", challenger=0.6)
    first = {"champion": None, "cells": (cell,)}
    assert judge(figures(**first), [], SETTINGS).passed
    found = judge(figures(**first, gain=interval(-0.01, 0.02)), [], SETTINGS)
    assert failed(found) == ["mean"]
    assert "against chance (0.5000)" in found.told()


def test_the_same_weights_in_another_bento_have_nothing_to_gain() -> None:
    """They pass by calibration and equalities alone."""
    assert judge(figures(gain=interval(0, 0), same=True), [], SETTINGS).passed


def rows(count: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels [N, 2], logits [N, 2] that explain them, scenario [N] of three."""
    random = np.random.default_rng(1)
    logits = random.normal(-0.5, 1.2, (count, 2))
    labels = (random.random((count, 2)) < scipy.special.expit(logits)).astype(np.float32)
    return labels, logits, random.integers(0, 3, count)


def against(champion: np.ndarray, challenger: np.ndarray, labels: np.ndarray, scenario: np.ndarray) -> Figures:
    """The figures of two models' logits [N, 2]."""
    ours, theirs = (
        estimate_cells(labels, scores, scenario, TASKS, scenarios=NAMES) for scores in (challenger, champion)
    )
    gain = (mean(list(ours.values())) - mean(list(theirs.values()))).interval(0.95)
    cells = tuple(
        Cell(
            name=name,
            challenger=ours[name].value,
            champion=theirs[name].value,
            gain=(ours[name] - theirs[name]).interval(0.95),
        )
        for name in ours
    )
    return figures(gain=gain, cells=cells, calibration={})


def test_a_challenger_that_is_spoiled_in_one_scenario_is_refused_by_its_name() -> None:
    """Better in five cells of six and in the mean, shuffled in the one: the gate names it, and nothing else."""
    labels, logits, scenario = rows()
    random = np.random.default_rng(2)
    worse = logits + 3 * random.normal(size=logits.shape)
    spoiled, inside = logits.copy(), np.flatnonzero(scenario == 2)
    spoiled[inside, 1] = spoiled[random.permutation(inside), 1]
    worse[inside, 1] = logits[inside, 1]
    found = judge(against(worse, spoiled, labels, scenario), [], SETTINGS)
    assert failed(found) == [f"cell {NAMES[2]}/order"]
    assert judge(against(worse, logits, labels, scenario), [], SETTINGS).passed


def test_a_challenger_of_shuffled_labels_is_refused() -> None:
    """It knows nothing: refused by the mean and by every cell, and as a first release by chance."""
    labels, logits, scenario = rows()
    nothing = np.random.default_rng(3).permutation(logits)
    found = judge(against(logits, nothing, labels, scenario), [], SETTINGS)
    assert len(failed(found)) == 1 + 6
    assert not judge(against(nothing, nothing, labels, scenario), [], SETTINGS).passed


def test_equal_challengers_are_rarely_let_through() -> None:
    """Of 200 that are as good as the champion at most 5 in 100 pass: the gate does not follow chance."""
    labels, logits, scenario = rows(900)
    random = np.random.default_rng(4)
    sights = (logits + random.normal(size=(2, *logits.shape)) for _ in range(200))
    passed = [judge(against(*pair, labels, scenario), [], SETTINGS).passed for pair in sights]
    assert np.mean(passed) < 0.05
