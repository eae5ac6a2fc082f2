"""The report of a model: every cell in the order of the schema, and the mean of those with a metric."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.evaluation.report import measure, write_metrics
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


def test_weighted_metrics_stand_beside_the_others(tmp_path: Path) -> None:
    """The others are as without weights; the weighted AUC is scikit-learn's, and metrics.json has both means."""
    test, truth = encoded_rows()
    weight = np.random.default_rng(0).exponential(size=len(test.scenario)).astype(np.float32)
    plain = measure(truth, test, SCHEMA, SETTINGS)
    report = measure(truth, dataclasses.replace(test, weight=weight), SCHEMA, SETTINGS)
    more = ["weighted_auc", "weighted_calibration", "weight"]
    assert [{key: cell[key] for key in cell if key not in more} for cell in report["cells"]] == plain["cells"]
    assert all(list(cell) == KEYS + more for cell in report["cells"])
    kept, cell = test.scenario == 0, report["cells"][0]
    expected = roc_auc_score(test.labels[kept, 0], truth[kept, 0], sample_weight=weight[kept])
    assert (cell["weighted_auc"], cell["weight"]) == pytest.approx((expected, weight[kept].sum()), abs=1e-5)
    write_metrics(tmp_path / "metrics.json", {"hinet": report})
    written = json.loads((tmp_path / "metrics.json").read_text())["hinet"]
    assert written == report
    assert written["weighted_mean"] == pytest.approx(np.mean([c["weighted_auc"] for c in report["cells"]]), abs=1e-6)
