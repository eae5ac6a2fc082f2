"""How often the promotion policy accepts a challenger by chance."""

import numpy as np
import pytest

from release.policy import decide
from tests.support.challengers import SETTINGS, against, rows

pytestmark = pytest.mark.integration


def test_equal_challengers_are_rarely_accepted() -> None:
    """Of 200 that are as good as the champion, fewer than 5 in 100 are accepted by chance."""
    labels, logits, scenario = rows(900)
    random = np.random.default_rng(4)
    sights = (logits + random.normal(size=(2, *logits.shape)) for _ in range(200))
    passed = [decide(against(*pair, labels, scenario), [], SETTINGS).passed for pair in sights]
    assert np.mean(passed) < 0.05
