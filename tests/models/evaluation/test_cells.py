"""The metrics of a cell by the kind of its task, and the reason where one is undefined."""

import numpy as np
import pytest

from models.evaluation import cells
from tests.support.evaluation import SETTINGS

pytestmark = pytest.mark.unit


def test_no_interval_and_no_user_are_reasons_too() -> None:
    """A single positive has an AUC without an interval; users of one row each have no grouped AUC."""
    labels, scores = np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    single = cells.measure_binary(labels, scores, np.zeros(4, int), SETTINGS)
    assert (single["auc"], single["auc_low"]) == (1, None)
    assert single["reason"].startswith("no interval: it needs two rows of each class")
    own_users = cells.measure_binary(labels, scores, np.arange(4), SETTINGS)
    assert own_users["reason"] == "no user with both classes"


def test_a_cell_of_classes_has_accuracy_and_that_of_the_most_frequent_class() -> None:
    """By hand: three of four correct, half of the rows of one class; no rows give None and a reason."""
    labels = np.array([0.0, 0, 1, 2])
    probabilities = np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    cell = cells.measure_classes(labels, probabilities, SETTINGS)
    assert (cell["metric"], cell["accuracy"], cell["majority"], cell["rows"]) == ("accuracy", 0.75, 0.5, 4)
    assert cell["accuracy_low"] < 0.75 < cell["accuracy_high"]
    assert cell["logloss"] == pytest.approx(-np.log([0.6, 0.5, 0.8, 0.3]).mean(), abs=1e-6)
    empty = cells.measure_classes(np.zeros(0), np.zeros((0, 3)), SETTINGS)
    assert (empty["accuracy"], empty["logloss"], empty["reason"]) == (None, None, "no rows with this label")


def test_a_cell_of_a_choice_has_hit_rates_within_the_sets() -> None:
    """By hand: of three sets the first is a hit, in the second the chosen one is second, the third has none."""
    labels, sets = np.array([1.0, 0, 0, 1, 0, 0, 0]), np.array([4, 4, 9, 9, 2, 2, 2])
    cell = cells.measure_choice(labels, np.array([0.9, 0.1, 0.8, 0.2, 0.9, 0.1, 0.1]), sets, SETTINGS)
    expected = {"metric": "hr1", "hr1": 0.5, "hr5": 1.0, "chance": 0.5, "rows": 7, "sets": 2}
    assert {name: cell[name] for name in expected} == expected
    single_candidates = cells.measure_choice(np.ones(3), np.ones(3), np.arange(3), SETTINGS)
    assert [single_candidates[name] for name in ("hr1", "chance", "sets")] == [None, None, 0]
    assert single_candidates["reason"] == "no set with a chosen candidate and another one"
    empty = cells.measure_choice(np.zeros(0), np.zeros(0), np.zeros(0, int), SETTINGS)
    assert empty["reason"] == "no rows with this label"
