"""A model with capped and hashed tables: served as it was trained, and what it hashes is flagged as unknown."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.paths import ROOT
from features.encoding.encoder import Encoder
from features.schema import Kind
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from serving.ranking.scorer import as_probabilities, forward
from tests.support import tiny_project

pytestmark = pytest.mark.integration

BUCKETS = {"user_id": 3, "item_id": 5, "city": 2, "tags": 2}
OUTSIDE = [2000, 2001, 2002, 2003]  # in neither vocabulary nor snapshot


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of a model that has a row for half of the values of the tiny project, and buckets for the others."""
    root = tmp_path_factory.mktemp("hashed")
    known = Encoder.read(project / "artifacts/encoder.parquet")
    fewer = {
        name: values[: len(values) // 2] if name in BUCKETS else values for name, values in known.vocabularies.items()
    }
    encoder = dataclasses.replace(known, vocabularies=fewer, buckets=BUCKETS)
    model = tiny_project.write_model_of(encoder, project, root)
    sources = ModelSources(model, project / tiny_project.ONLINE, root / "registry.db")
    return open_ranker(sources, tiny_project.with_read_timeout(ROOT, outdated_hours=None))


def rank(ranker: Ranker, **changes: Any) -> RankingResult:
    """The result of a valid request with changes."""
    schema, views = ranker.loaded.schema, ranker.loaded.model.views
    accepted = request_type(schema, tiny_project.with_read_timeout(ROOT), views)
    return ranker.rank(accepted(**{"user_id": 1, "scenario": "search", "candidates": list(range(9))} | changes))


@pytest.mark.parametrize("user", [1, 7, 1000, 1001])
@pytest.mark.parametrize("overrides", [{}, {"items": {"price": [1.0] * 13}}], ids=["plain", "overridden"])
def test_a_hashed_value_is_served_as_it_is_trained(ranker: Ranker, user: int, overrides: dict) -> None:
    """Of users and items with a row of their own, hashed, or never seen: the network's forward of the encoded rows."""
    items = [*range(9), *OUTSIDE]
    result = rank(ranker, user_id=user, candidates=items, overrides=overrides)
    loaded = ranker.loaded
    values = loaded.users.row({"user_id": user, "scenario": "search"})[0].values
    rows = loaded.item_rows(items, loaded.catalogue.indices(items), overrides.get("items", {}))
    encoded = loaded.model.encoder.encode(
        loaded.encoder_rows({**values, "user_id": user, "scenario": "search", "hour": None}, rows)
    )
    expected = as_probabilities(forward(loaded.model, encoded), (1, 1))[[items.index(item) for item in result.items]]
    served = np.stack([result.probabilities[task] for task in ("click", "order")], axis=1)
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6)
    ids = encoded.categorical[
        :, [c.name for c in loaded.model.encoder.columns if c.kind is Kind.CATEGORICAL].index("item_id")
    ]
    assert len(set(ids[len(items) - len(OUTSIDE) :].tolist())) > 1  # they do not all share one row


def test_what_has_no_row_of_its_own_is_flagged(ranker: Ranker) -> None:
    """A hashed user, item, feature or list is unknown in the answer; what the vocabularies have is not."""
    vocabularies = ranker.loaded.model.encoder.vocabularies
    known_user, known_items = vocabularies["user_id"][0], list(vocabularies["item_id"])
    plain = rank(ranker, user_id=known_user, candidates=[*known_items, 8, *OUTSIDE])
    assert (plain.unknown_user, sorted(plain.unknown_items)) == (False, [8, *OUTSIDE])
    city, tag = vocabularies["city"][0], vocabularies["tags"][0]
    for user, cities, tags, columns in ((known_user, city, tag, []), (11, "Oz", "Oz", ["city", "tags"])):
        overrides = {"user": {"city": cities}, "items": {"tags": [[tags]] * len(known_items)}}
        result = rank(ranker, user_id=user, candidates=known_items, overrides=overrides)
        assert (result.unknown_user, result.unknown_items) == (user == 11, [])
        assert [name for name in result.unknown_columns if name in ("city", "tags")] == columns
    mixed = {"items": {"tags": [["Oz", tag]] * len(known_items)}}
    assert "tags" not in rank(ranker, candidates=known_items, overrides=mixed).unknown_columns
