"""Fallback scores: label rates of the training rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.model_folder import REFERENCE
from serving.ranking.fallback import FallbackScores
from serving.ranking.ranker import Ranker
from tests.support import tiny_project

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the tiny project."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("registry") / "registry.db")


def test_a_scenario_without_rows_has_the_rate_of_all(ranker: Ranker, tmp_path: Path) -> None:
    """Not 0 for every item, which would leave the order of the request."""
    labels = {"click": [[[10, 4], [0, 0], [10, 2]]], "order": [[[4, 1], [0, 0], [2, 1]]]}
    (tmp_path / REFERENCE).write_text(json.dumps({"labels": labels}))
    scores = FallbackScores(ranker.loaded.model, tmp_path, ranker.loaded.catalogue)
    np.testing.assert_allclose(scores.scenario_rates, [[0.4, 0.25], [0.3, 1 / 3], [0.2, 0.5]])
