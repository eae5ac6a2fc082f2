"""The comparison of two answers: rank correlation and score shift."""

from typing import Any

import numpy as np
import pytest

from serving.shadow.comparison import Comparison

pytestmark = pytest.mark.unit


def comparison(**changes: Any) -> Comparison:
    """The comparison of two answers with four items, with changes."""
    fields: dict[str, Any] = {
        "keys": {"user_id": 1},
        "items": [5, 6, 7, 8],
        "scores": np.array([4.0, 3.0, 2.0, 1.0]),
        "shadow_scores": np.array([4.5, 3.5, 2.5, 1.5]),
        "probabilities": {},
        "models": ("a", "b"),
        "seconds": (0.001, 0.002),
    }
    return Comparison(**fields | changes)


def test_rank_correlation_and_score_shift() -> None:
    """Equal orders correlate by 1, reversed ones by -1; constant scores and two items have no correlation."""
    assert comparison().correlation == pytest.approx(1)
    assert comparison().shift == pytest.approx(0.5)
    assert comparison(shadow_scores=np.array([1.0, 2, 3, 4])).correlation == pytest.approx(-1)
    assert comparison(shadow_scores=np.ones(4)).correlation is None
    assert comparison(items=[1, 2], scores=np.ones(2), shadow_scores=np.ones(2)).correlation is None
