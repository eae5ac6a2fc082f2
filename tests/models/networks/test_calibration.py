"""The maps of a calibration: strictly increasing, finite, and of the cells that it names."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from models.networks.calibration import Calibration, Isotonic, Platt
from tests.support.calibrated import ISOTONIC, PLATT

pytestmark = pytest.mark.unit
SCENARIOS, OUTPUTS = ("feed", "search", "channel"), ("click", "order")
LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=30)
STEPS = st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.01, 5)), min_size=1, max_size=20)


def calibration(document: dict[str, Any]) -> Calibration:
    """The calibration of the tiny world."""
    return Calibration(document, scenarios=SCENARIOS, outputs=OUTPUTS)


@settings(max_examples=25)
@given(logits=LOGITS, steps=STEPS, start=st.floats(-10, 10))
def test_an_isotonic_map_keeps_the_order_and_is_a_probability(
    logits: list[float], steps: list[tuple[float, float]], start: float
) -> None:
    """Whatever the knots, a higher logit has a higher one; probabilities are inside of [0, 1] and finite."""
    x, y = np.cumsum(np.array(steps).T, axis=1) + start
    rising = np.unique(np.round(logits, 3))
    mapped = Isotonic(x=x.tolist(), y=y.tolist())(rising)
    assert (np.diff(mapped) > 0).all()
    assert np.isfinite(mapped).all()
    assert ((expit(mapped) >= 0) & (expit(mapped) <= 1)).all()


def test_an_isotonic_map_goes_through_its_knots() -> None:
    """Straight lines between them; beyond the ends the logit with the shift of the end."""
    mapped = Isotonic(x=[-1.0, 0.0, 2.0], y=[-3.0, 0.0, 1.0])(np.array([-2.0, -1.0, -0.5, 0.0, 1.0, 2.0, 7.0]))
    np.testing.assert_allclose(mapped, [-4.0, -3.0, -1.5, 0.0, 0.5, 1.0, 6.0])


@pytest.mark.parametrize("document", [PLATT, ISOTONIC])
def test_rows_of_all_scenarios_are_mapped_as_those_of_one(document: dict[str, Any]) -> None:
    """`of_rows` is `of_scenario` row by row; a cell without a map, and a row of no scenario, keep their logits."""
    random = np.random.default_rng(0)
    logits, scenario = random.normal(size=(200, 2)).astype(np.float32), random.integers(-1, 3, 200)
    mapped = calibration(document).of_rows(logits, scenario)
    for row, code in enumerate(scenario):
        own = logits[row : row + 1].astype(np.float64)
        expected = own if code < 0 else calibration(document).of_scenario(own, int(code))
        np.testing.assert_array_equal(mapped[row], expected[0])
    np.testing.assert_array_equal(mapped[scenario == 2], logits[scenario == 2])
    np.testing.assert_array_equal(mapped[scenario == -1], logits[scenario == -1])
    assert (mapped[scenario == 0, 0] != logits[scenario == 0, 0]).all()


def test_each_cell_says_what_it_has() -> None:
    """The kind of its map, or why there is none."""
    assert calibration(PLATT).by_cell["feed/click"] == "platt"
    assert calibration(PLATT).by_cell["channel/order"].startswith("none: 3 positives in 40 validation rows")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"kind": "platt", "cells": {"feed/click": {"a": -1.0, "b": 0.0}}},
            "expected a > 0 and a finite b, found a -1",
        ),
        ({"kind": "platt", "cells": {"feed/click": {"a": 1.0}}}, "missing 1 required positional argument: 'b'"),
        ({"kind": "platt", "cells": {"home/click": {"a": 1.0, "b": 0.0}}}, r"the model has not: \[\('home', 'click'\)"),
        ({"kind": "isotonic", "cells": {"feed/click": {"x": [], "y": []}}}, "expected finite knots"),
        ({"kind": "isotonic", "cells": {"feed/click": {"x": [0, 1], "y": [1, 1]}}}, "of which x and y rise"),
        ({"kind": "isotonic", "cells": {"feed/click": {"x": [0, 1], "y": [1]}}}, "inhomogeneous"),
        ({"kind": "beta", "cells": {}}, "KeyError: 'beta'"),
        ({"kind": "platt", "cells": []}, "AttributeError"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(document: dict[str, Any], message: str) -> None:
    """A ValueError says what is wrong with it."""
    with pytest.raises(ValueError, match=message):
        calibration(document)


def test_a_platt_line_is_a_straight_line() -> None:
    """The calibrated logit is a * logit + b."""
    np.testing.assert_array_equal(Platt(a=2, b=1)(np.array([0.0, -1.0])), [1.0, -1.0])
