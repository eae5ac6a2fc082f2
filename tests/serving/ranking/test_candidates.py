"""What `exclude` and `diversify` make of the candidates of a request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.paths import ROOT
from serving.ranking.ranker import Ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project
from tests.support.sqlite_lock import locked_by_another_process

ITEMS = list(range(9))
UNKNOWN_USER, UNKNOWN_ITEMS = 1000, [2000, 2001]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the tiny project."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("registry") / "registry.db")


def rank(ranker: Ranker, **changes: Any) -> RankingResult:
    """The result of a valid request with changes."""
    schema, views = ranker.loaded.schema, ranker.loaded.model.views
    accepted = request_type(schema, tiny_project.with_read_timeout(ROOT), views)
    return ranker.rank(accepted(**{"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes))


def history(ranker: Ranker, user: int = 1) -> set[int]:
    """The recent items of a user in the online store."""
    row, _ = ranker.loaded.users.row({"user_id": user, "scenario": "search"})
    return set(row.values["user_recent_items"])


@pytest.mark.parametrize("candidates", [[*ITEMS, *UNKNOWN_ITEMS], "all"], ids=["listed", "all"])
def test_excluded_items_are_left_out(ranker: Ranker, candidates: Any) -> None:
    """The others keep their order and scores; ids that are no candidates change nothing, and nothing is unknown."""
    plain = rank(ranker, candidates=candidates)
    result = rank(ranker, candidates=candidates, exclude=[3, 7, UNKNOWN_ITEMS[0], 4000])
    kept = [item for item in plain.items if item not in (3, 7, UNKNOWN_ITEMS[0])]
    assert (result.items, result.considered) == (kept, len(kept))
    scores = dict(zip(plain.items, plain.scores, strict=True))
    np.testing.assert_allclose(result.scores, [scores[item] for item in kept], atol=1e-6)


@pytest.mark.parametrize("candidates", [ITEMS, "all"], ids=["listed", "all"])
def test_seen_items_are_those_of_the_history_in_the_store(ranker: Ranker, candidates: Any) -> None:
    """The user's recent items are left out; others can be excluded with them."""
    seen = history(ranker)
    assert 0 < len(seen) < len(ITEMS)
    assert set(rank(ranker, candidates=candidates, exclude="seen").items) == set(ITEMS) - seen
    (more, *_) = set(ITEMS) - seen
    both = rank(ranker, candidates=candidates, exclude={"items": [more], "seen": True})
    assert set(both.items) == set(ITEMS) - seen - {more}
    assert set(rank(ranker, candidates=candidates, exclude={"seen": False}).items) == set(ITEMS)


def test_the_caller_may_know_better_what_was_seen(ranker: Ranker) -> None:
    """An overridden history counts instead of the store's; a null one is empty."""
    for recent, seen in (([2, 4], {2, 4}), (None, set())):
        result = rank(ranker, exclude="seen", overrides={"user": {"user_recent_items": recent}})
        assert set(result.items) == set(ITEMS) - seen


def test_an_unknown_user_has_seen_nothing(ranker: Ranker) -> None:
    """All candidates are ranked."""
    assert set(rank(ranker, user_id=UNKNOWN_USER, exclude="seen").items) == set(ITEMS)


def test_a_store_that_does_not_answer_is_flagged(project: Path, tmp_path: Path) -> None:
    """Nothing is known of what the user has seen, so nothing is excluded, and the answer says why."""
    ranker = tiny_project.ranker(project, tmp_path / "registry.db", store={"timeout_ms": 5.0})
    with locked_by_another_process(project / tiny_project.ONLINE):
        result = rank(ranker, exclude="seen")
    assert set(result.items) == set(ITEMS)
    assert result.degraded
    assert result.degraded.startswith("online store: ")


def test_where_all_is_excluded_the_ranking_is_empty(ranker: Ranker) -> None:
    """No error, whatever else the request asks for."""
    result = rank(ranker, exclude=ITEMS, explain=True, diversify={"by": "tags", "most": 1})
    assert (result.items, len(result.scores), result.considered, result.diversified) == ([], 0, 0, 0)


def test_overrides_and_filters_hold_for_the_items_that_stay(ranker: Ranker) -> None:
    """An overridden price stays that of its item when others are excluded; filter and exclusion both apply."""
    prices = [float(10 * item) for item in ITEMS]
    changed = rank(ranker, overrides={"items": {"price": prices}})
    scores = dict(zip(changed.items, changed.scores, strict=True))
    result = rank(ranker, overrides={"items": {"price": prices}}, exclude=[0, 5])
    np.testing.assert_allclose(result.scores, [scores[item] for item in result.items], atol=1e-6)
    hot = rank(ranker, filters={"tags": "hot"}).items
    assert rank(ranker, filters={"tags": "hot"}, exclude=hot[:1]).items == hot[1:]


def tags_of(ranker: Ranker) -> dict[int, list[str]]:
    """The tags of each item in the snapshot."""
    rows = ranker.loaded.catalogue.rows.slice(0, 9).to_pylist()
    return {row["item_id"]: row["tags"] for row in rows}


@pytest.mark.parametrize("candidates", [ITEMS, "all"], ids=["listed", "all"])
def test_the_first_ranks_have_few_items_of_one_value(ranker: Ranker, candidates: Any) -> None:
    """At most one of each tag in the ranks that the answer counts; scores and probabilities are those of the items."""
    plain, tags = rank(ranker, candidates=candidates), tags_of(ranker)
    result = rank(ranker, candidates=candidates, diversify={"by": "tags", "most": 1, "first": 5}, k=6)
    limited = result.diversified
    assert limited
    shown = [tag for item in result.items[:limited] for tag in tags[item]]
    assert len(set(shown)) == len(shown)
    assert result.items[0] == plain.items[0]
    assert (result.items != plain.items[:6], len(result.items)) == (True, 6)
    scores = dict(zip(plain.items, plain.scores, strict=True))
    np.testing.assert_allclose(result.scores, [scores[item] for item in result.items], atol=1e-6)


def test_overridden_values_are_those_that_are_limited(ranker: Ranker) -> None:
    """All items get one tag: the limit holds in one rank only, and the rest is filled by score."""
    overrides = {"items": {"tags": [["hot"]] * len(ITEMS)}}
    result = rank(ranker, overrides=overrides, diversify={"by": "tags", "most": 1})
    assert result.diversified == 1
    assert (np.diff(result.scores) <= 0).all()


def test_a_request_without_a_limit_says_nothing_of_one(ranker: Ranker) -> None:
    """The answer has no field for it."""
    assert rank(ranker).diversified is None
