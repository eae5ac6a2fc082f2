"""The promotion policy: when it accepts a challenger, when it rejects one, and that it names cell and difference."""

import numpy as np
import pytest

from release.policy import Cell, Rule, Verdict, decide
from tests.support.challengers import NAMES, SETTINGS, against, interval, metrics, rows

pytestmark = pytest.mark.unit


def failed(verdict: Verdict) -> list[str]:
    """The names of the rules that failed."""
    return [rule.name for rule in verdict.failed]


def test_a_challenger_that_is_better_everywhere_is_accepted() -> None:
    """Every rule passes, and its sentence has the numbers."""
    verdict = decide(metrics(), [Rule(name="encoder", passed=True, sentence="the same")], SETTINGS)
    assert verdict.passed
    assert [rule.name for rule in verdict.rules] == ["mean", "cell feed/click", "calibration feed/click", "encoder"]
    assert "+0.0200 (+0.0100 to +0.0300) against the champion old" in verdict.summary()


@pytest.mark.parametrize("low", [-0.01, 0.0])
def test_a_gain_within_its_interval_is_none(low: float) -> None:
    """The lower end has to be above the minimum gain: equal is not enough. The sentence has what it lacks."""
    verdict = decide(metrics(gain=interval(low, 0.03)), [], SETTINGS)
    assert failed(verdict) == ["mean"]
    assert f"it lacks {abs(low):.4f}" in verdict.summary()


def test_a_negative_minimum_gain_accepts_a_challenger_that_is_not_worse() -> None:
    """For a daily model that has to be fresh rather than better."""
    verdict = decide(metrics(gain=interval(-0.002, 0.003)), [], SETTINGS.model_copy(update={"minimum_gain": -0.005}))
    assert verdict.passed


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [(-0.04, -0.02, False), (-0.08, 0.02, True), (-0.006, -0.002, True), (0.0, 0.2, True)],
)
def test_a_cell_fails_beyond_guard_and_interval(low: float, high: float, passes: bool) -> None:
    """Neither for a loss whose interval contains zero, nor for a certain loss within the guard."""
    cell = Cell(name="feed/order", challenger=0.7, champion=0.73, gain=interval(low, high))
    verdict = decide(metrics(cells=(cell,)), [], SETTINGS)
    assert verdict.passed == passes
    if not passes:
        assert "feed/order: 0.7000 against 0.7300" in verdict.summary()
        assert "worse by 0.0300, beyond the guard of 0.01" in verdict.summary()


@pytest.mark.parametrize(
    ("low", "high", "passes"), [(1.2, 1.4, True), (1.26, 1.4, False), (0.5, 0.79, False), (0.5, 0.81, True)]
)
def test_calibration_fails_where_all_of_its_interval_is_outside(low: float, high: float, passes: bool) -> None:
    """The band is 1 / 1.25 to 1.25; the sentence has the cell and the band."""
    verdict = decide(metrics(calibration={"search/click": interval(low, high)}), [], SETTINGS)
    assert verdict.passed == passes
    assert ("outside 0.800 to 1.250" in verdict.summary()) != passes


def test_a_failed_parity_check_rejects_the_challenger() -> None:
    """However good its metrics are."""
    verdict = decide(metrics(), [Rule(name="answers", passed=False, sentence="3 rows differ")], SETTINGS)
    assert failed(verdict) == ["answers"]
    assert verdict.summary().splitlines()[1] == "  NO  3 rows differ"


def test_the_first_release_is_compared_with_chance() -> None:
    """Without a champion the mean has to be above that of a model without knowledge, and no cell is compared."""
    cell = Cell(name="feed/click", challenger=0.6)
    first = {"champion": None, "cells": (cell,)}
    assert decide(metrics(**first), [], SETTINGS).passed
    verdict = decide(metrics(**first, gain=interval(-0.01, 0.02)), [], SETTINGS)
    assert failed(verdict) == ["mean"]
    assert "against chance (0.5000)" in verdict.summary()


def test_the_same_weights_in_another_bento_have_nothing_to_gain() -> None:
    """Calibration and parity checks decide."""
    assert decide(metrics(gain=interval(0, 0), same=True), [], SETTINGS).passed


def test_a_challenger_that_is_spoiled_in_one_cell_is_rejected_for_that_cell() -> None:
    """Better in five cells of six and in the mean, shuffled in one: only the rule of that cell fails."""
    labels, logits, scenario = rows()
    random = np.random.default_rng(2)
    worse = logits + 3 * random.normal(size=logits.shape)
    spoiled, inside = logits.copy(), np.flatnonzero(scenario == 2)
    spoiled[inside, 1] = spoiled[random.permutation(inside), 1]
    worse[inside, 1] = logits[inside, 1]
    verdict = decide(against(worse, spoiled, labels, scenario), [], SETTINGS)
    assert failed(verdict) == [f"cell {NAMES[2]}/order"]
    assert decide(against(worse, logits, labels, scenario), [], SETTINGS).passed


def test_a_challenger_of_shuffled_labels_is_rejected() -> None:
    """By the mean and by every cell, and as a first release by chance."""
    labels, logits, scenario = rows()
    shuffled = np.random.default_rng(3).permutation(logits)
    verdict = decide(against(logits, shuffled, labels, scenario), [], SETTINGS)
    assert len(failed(verdict)) == 1 + 6
    assert not decide(against(shuffled, shuffled, labels, scenario), [], SETTINGS).passed
