"""The report of a model: every cell in the order of the schema, and the mean of those with a metric."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.evaluation.report import measure
from tests.support.evaluation import SCHEMA, SETTINGS, encoded_rows

pytestmark = pytest.mark.unit
KEYS = [
    *("scenario", "task", "auc", "auc_low", "auc_high", "logloss", "ne", "calibration", "ece", "gauc"),
    *("rows", "positives"),
]


def test_cells_are_by_scenario_and_task_with_the_keys_of_the_report() -> None:
    """Every cell has the documented keys, in the order of the schema, and scikit-learn's AUC."""
    test, truth = encoded_rows()
    report = measure(truth, test, SCHEMA, SETTINGS)
    expected = [(s, t) for s in SCHEMA.scenarios for t in SCHEMA.task_names]
    assert [(cell["scenario"], cell["task"]) for cell in report["cells"]] == expected
    for cell in report["cells"]:
        assert list(cell) == KEYS
        kept, task = test.scenario == SCHEMA.scenarios.index(cell["scenario"]), SCHEMA.task_names.index(cell["task"])
        assert cell["auc"] == pytest.approx(roc_auc_score(test.labels[kept, task], truth[kept, task]), abs=1e-6)
        assert (cell["rows"], cell["positives"]) == (kept.sum(), test.labels[kept, task].sum())
    assert report["mean_auc"] == pytest.approx(np.mean([cell["auc"] for cell in report["cells"]]), abs=1e-6)


def test_a_cell_without_a_metric_has_a_reason() -> None:
    """One class, no rows, unobserved labels: null and a reason, never NaN, and it does not count in the mean."""
    test, truth = encoded_rows()
    test.scenario[test.scenario == 2] = 1
    test.labels[test.scenario == 0, 0] = 1
    test.labels[test.scenario == 1, 1] = np.nan
    report = measure(truth, test, SCHEMA, SETTINGS)
    cells = {(cell["scenario"], cell["task"]): cell for cell in report["cells"]}
    one, none, empty = cells["feed", "click"], cells["search", "order"], cells["channel", "click"]
    assert one["reason"].startswith("one class only: ")
    assert (one["auc"], one["ne"], one["gauc"]) == (None, None, None)
    assert one["calibration"] is not None
    assert none["reason"] == empty["reason"] == "no rows with this label"
    assert "reason" not in cells["search", "click"]
    assert "NaN" not in json.dumps(report)
    assert report["mean_auc"] == pytest.approx((cells["feed", "order"]["auc"] + cells["search", "click"]["auc"]) / 2)
