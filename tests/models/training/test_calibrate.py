"""The fit of a calibration: planted errors of the logits are found, and cells with few rows stay as they are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from common.errors import ParameterError
from features.encoding.tensors import Tensors
from features.schema import Task, TaskKind
from models.evaluation.metrics import auc, calibration_error, log_loss, reliability
from models.networks.calibration import Calibration
from models.training.calibrate import FEWEST, check_calibration, fit_calibration, summary_of_calibration
from tests.support import world

pytestmark = pytest.mark.unit
SCHEMA = world.schema()
A, B = 2.0, 1.0  # of the planted error: the network's logit is this line of the true one


def planted(rows: int, *, seed: int = 0, weighted: bool = False) -> tuple[np.ndarray, Tensors]:
    """Logits [N, 2] = A * truth + B for clicks, the truth for orders; of channel only 40 rows have an order's label.

    `weighted`: half of the clicks have the weight 3, so that the weighted odds are higher.
    """
    random = np.random.default_rng(seed)
    truth, scenario = random.normal(-1, 1, (rows, 2)), random.integers(0, 3, rows)
    labels = (random.random((rows, 2)) < expit(truth)).astype(np.float32)
    labels[np.flatnonzero(scenario == 2)[40:], 1] = np.nan
    nothing = np.empty((rows, 0))
    weight = np.where((labels[:, 0] == 1) & (random.random(rows) < 0.5), 3, 1).astype(np.float32)
    valid = Tensors(
        categorical=nothing.astype(np.int32),
        bags=nothing.astype(np.int32),
        numeric=nothing.astype(np.float32),
        scenario=scenario.astype(np.int32),
        labels=labels,
        event_id=np.arange(rows),
        user=np.arange(rows),
        weight=weight if weighted else None,
    )
    return (truth * [A, 1] + [B, 0]).astype(np.float32), valid


def fitted(kind: str, logits: np.ndarray, valid: Tensors) -> Calibration:
    """The calibration; there is one."""
    calibration = fit_calibration(kind, logits, valid, SCHEMA)
    assert calibration is not None
    return calibration


def test_platt_finds_the_planted_line() -> None:
    """Logits are 2 * truth + 1: the map is its inverse, a = 1/2 and b = -1/2, in each scenario; orders need none."""
    cells = fitted("platt", *planted(60_000)).document["cells"]
    for scenario in SCHEMA.scenarios:
        assert cells[f"{scenario}/click"] == pytest.approx({"a": 1 / A, "b": -B / A}, abs=0.05)
    assert cells["feed/order"] == pytest.approx({"a": 1, "b": 0}, abs=0.07)


def test_weighted_rows_count_as_their_weight() -> None:
    """Half of the clicks count three times: the odds are twice as high, so that b is higher by log 2."""
    cells = fitted("platt", *planted(60_000, weighted=True)).document["cells"]
    assert cells["feed/click"] == pytest.approx({"a": 1 / A, "b": -B / A + np.log(2)}, abs=0.05)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_new_rows_are_calibrated_in_the_same_order(kind: str) -> None:
    """On rows that the fit has not seen: a fraction of the calibration error, a lower log loss, the same AUC."""
    calibration = fitted(kind, *planted(20_000))
    logits, test = planted(20_000, seed=1)
    mapped = calibration.of_rows(logits, test.scenario)
    for code in range(3):
        own = test.scenario == code
        labels, before, after = test.labels[own, 0], expit(logits[own, 0].astype(float)), expit(mapped[own, 0])
        errors = [calibration_error(reliability(labels, values, bins=10)) for values in (before, after)]
        assert errors[1] < 0.2 * errors[0]
        assert log_loss(labels, after) < log_loss(labels, before)
        assert auc(labels, after) == auc(labels, before)


def test_isotonic_has_the_values_of_scikit_learn_at_its_knots() -> None:
    """Bins of one logit each: IsotonicRegression of the rows, and one row more per bin with the cell's mean."""
    logits, valid = planted(12_000)
    valid = Tensors(**vars(valid) | {"scenario": np.zeros(12_000, np.int32)})
    order, bins = np.argsort(logits[:, 0]), np.linspace(-4, 2, 20, dtype=np.float32)
    logits[order, 0] = np.repeat(bins, 600)
    labels = valid.labels[:, 0]
    expected = IsotonicRegression().fit(
        np.concatenate([logits[:, 0], bins]).astype(np.float64),
        np.concatenate([labels, np.full(20, labels.mean())]),
    )
    knots = fitted("isotonic", logits, valid).document["cells"]["feed/click"]
    assert len(knots["x"]) > 10
    np.testing.assert_allclose(expit(knots["y"]), expected.predict(knots["x"]), atol=1e-6)
    values = expit(fitted("isotonic", logits, valid).of_scenario(logits, 0)[:, 0])
    assert np.abs(values - expected.predict(logits[:, 0].astype(np.float64))).max() < 0.05


def test_a_cell_with_few_rows_of_a_class_stays_as_it_is() -> None:
    """The document and the summary name it and say why."""
    calibration = fitted("platt", *planted(6000))
    reason = calibration.document["cells"]["channel/order"]["reason"]
    assert reason.endswith(f"positives in 40 validation rows, fewer than {FEWEST} of a class")
    assert summary_of_calibration(calibration) == {
        "kind": "platt",
        "cells": 5,
        "uncalibrated": {"channel/order": reason},
    }


def test_a_line_that_falls_is_not_taken() -> None:
    """Logits that are high where there is no click: the order would be turned round."""
    logits, valid = planted(6000)
    assert "the line falls" in fitted("platt", -logits, valid).document["cells"]["feed/click"]["reason"]
    knots = fitted("isotonic", -logits, valid).document["cells"]["feed/click"]
    assert len(knots["x"]) == 1, "the mean of the cell is all that an increasing function can say"


def test_none_is_no_calibration() -> None:
    """It is None, not an empty one."""
    assert fit_calibration("none", *planted(100), SCHEMA) is None


def test_a_log_without_binary_tasks_is_refused() -> None:
    """Before anything is trained, with the tasks that there are."""
    regression = type(
        "Only",
        (),
        {"tasks": (Task(name="seconds", kind=TaskKind.REGRESSION),), "task_names": ("seconds",), "name": "clips"},
    )
    with pytest.raises(ParameterError, match=r"train.calibration: platt is of binary tasks, but clips has none"):
        check_calibration("platt", regression)
    check_calibration("none", regression)
    check_calibration("isotonic", SCHEMA)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["platt", "isotonic"]),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
    separable=st.booleans(),
)
def test_every_map_is_monotone_and_finite(kind: str, seed: int, spread: float, separable: bool) -> None:
    """Also for logits that are all the same, that are huge, or that separate the classes."""
    logits, valid = planted(900, seed=seed)
    logits = (logits * spread).astype(np.float32)
    changed: dict[str, Any] = vars(valid) | ({"labels": (logits > 0).astype(np.float32)} if separable else {})
    calibration = fitted(kind, logits, Tensors(**changed))
    rising = np.unique(logits[:, 0])
    mapped = calibration.of_scenario(np.stack([rising, rising], axis=1), 0)
    assert np.isfinite(mapped).all()
    assert (np.diff(mapped, axis=0) >= 0).all()
