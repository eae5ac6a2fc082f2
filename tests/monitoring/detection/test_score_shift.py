"""Scores, calibration and AUC of a window against the validation rows."""

import numpy as np
import pytest

from monitoring.detection.score_shift import compare_auc, compare_scores
from tests.support import world

pytestmark = pytest.mark.unit

SCHEMA = world.schema()


def fall(positives: int, rows: int, reference: float) -> dict:
    """The click entry of the scenario feed: its positives are at a sixth of the ranking, the reference had as many."""
    labels = np.zeros((rows, 2))
    labels[rows * 5 // 6 : rows * 5 // 6 + positives] = 1
    probabilities = np.tile(np.linspace(0, 1, rows)[:, None], 2)
    then = {"feed/click": {"auc": reference, "rows": rows, "positives": positives}}
    return next(compare_auc(probabilities, labels, np.zeros(rows, int), SCHEMA, then))


def test_an_auc_of_few_positives_is_known_badly_however_high_it_was() -> None:
    """Four positives that happened to be first among the validation rows are no standard."""
    few, many = fall(4, 400, 0.998), fall(400, 4000, 0.998)
    assert few["fall"] > 0.1
    assert few["fall"] < few["noise"]
    assert many["fall"] > many["noise"]
    assert many["p_value"] < 1e-6


def test_a_model_that_predicts_nothing_has_no_calibration() -> None:
    """Sums of probabilities that are 0 when rounded: no ratio, no error."""
    cell = {"edges": [0.5], "counts": [9, 1], "observed": [[9, 1], [0.0, 0.0], [1, 1]], "rows": 10, "positives": 2}
    (entry,) = compare_scores(
        {"feed/click": cell | {"expected": 0.0}}, {"feed/click": cell | {"expected": 0.0}}, SCHEMA
    )
    assert entry["ratio"] is None
