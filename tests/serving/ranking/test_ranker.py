"""From a request to its order: which candidates, by which values, with which flags."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import ModelError
from common.paths import ROOT
from features.encoding.encoder import Batch
from features.schema import View
from features.store.item_snapshot import ItemSnapshot
from models.model_folder import REFERENCE
from models.networks.data_spec import DataSpec
from models.networks.shared_bottom import SharedBottom, SharedBottomConfig
from serving.ranking.feature_client import UserFeatures
from serving.ranking.item_catalogue import ItemCatalogue
from serving.ranking.ranker import Ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from serving.ranking.scorer import Scorer, as_probabilities, forward
from tests.support import tiny_project, world

ITEMS = list(range(9))
STRANGE_ITEM, STRANGER = 2000, 1000


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the tiny project that calls nothing stale."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("registry") / "registry.db", outdated_hours=None)


def request(ranker: Ranker, **changes: Any) -> Any:
    """A valid request with changes."""
    schema, views = ranker.state.schema, ranker.state.model.views
    accepted = request_type(schema, tiny_project.with_read_timeout(ROOT), views)
    return accepted(**{"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes)


def rank(ranker: Ranker, **changes: Any) -> RankingResult:
    """What a valid request with changes comes to."""
    return ranker.rank(request(ranker, **changes))


def said(ranked: RankingResult, task: str = "click") -> dict[int, float]:
    """The probability of a task by item."""
    return dict(zip(ranked.items, ranked.probabilities[task].tolist(), strict=True))


def test_all_are_the_items_of_the_snapshot(ranker: Ranker) -> None:
    """The same answer as for their ids; k cuts it, and what was considered is told."""
    every, listed, three = (rank(ranker, **change) for change in ({"candidates": "all"}, {}, {"k": 3}))
    assert every.items == listed.items
    assert (three.items, three.considered) == (listed.items[:3], 9)
    np.testing.assert_array_equal(every.scores, listed.scores)


def test_filters_leave_what_the_items_are(ranker: Ranker) -> None:
    """One of the values, one of a list's values, a range; of the listed or of all; unknown items pass none."""
    rows = {row["item_id"]: row for row in ranker.state.catalogue.rows.slice(0, 9).to_pylist()}
    hot = {item for item, row in rows.items() if "hot" in row["tags"]}
    cheap = {item for item, row in rows.items() if row["price"] <= 50}
    assert hot - cheap
    assert hot & cheap
    assert set(rank(ranker, filters={"tags": "hot"}).items) == hot
    assert set(rank(ranker, filters={"tags": ["hot", "none"]}, candidates="all").items) == hot
    both = rank(ranker, filters={"tags": "hot", "price": {"max": 50}}, candidates=[*ITEMS, STRANGE_ITEM])
    assert (set(both.items), both.considered) == (hot & cheap, len(hot & cheap))
    nobody = rank(ranker, filters={"price": {"min": 1e9}}, explain=True)
    assert nobody.explanation is None
    assert (nobody.items, nobody.considered, len(nobody.scores)) == ([], 0, 0)


def test_overrides_of_items_go_with_their_places(ranker: Ranker) -> None:
    """A price told for one candidate changes its probability alone; told as it is, it changes nothing."""
    prices = dict(zip(*(ranker.state.catalogue.rows[name].to_pylist() for name in ("item_id", "price")), strict=True))
    known = [prices[item] for item in ITEMS]
    plain, same = said(rank(ranker)), said(rank(ranker, overrides={"items": {"price": known}}))
    assert same == pytest.approx(plain, abs=1e-6)
    known[4] = 900.0
    other = said(rank(ranker, overrides={"items": {"price": known}}))
    assert [item for item in ITEMS if abs(other[item] - plain[item]) > 1e-5] == [4]
    kept = rank(ranker, overrides={"items": {"price": known}}, filters={"tags": "hot"})
    assert all(score == pytest.approx(other[item], abs=1e-6) for item, score in said(kept).items())


def test_overrides_of_the_user_replace_what_the_store_says(ranker: Ranker) -> None:
    """Another city is another answer; the city of the store is the same."""
    row, _ = ranker.state.users.row({"user_id": 1, "scenario": "search"})
    same = rank(ranker, overrides={"user": {"city": row.values["city"]}})
    other = rank(ranker, overrides={"user": {"city": "south" if row.values["city"] != "south" else "north"}})
    assert said(same) == said(rank(ranker)) != said(other)


def test_unknown_ids_are_flagged_among_the_items_of_the_answer(ranker: Ranker) -> None:
    """The user, and the items that the unknown row serves, in the order of the answer."""
    found = rank(ranker, user_id=STRANGER, candidates=[STRANGE_ITEM, 3, STRANGE_ITEM + 1])
    assert (found.unknown_user, sorted(found.unknown_items)) == (True, [STRANGE_ITEM, STRANGE_ITEM + 1])
    assert rank(ranker, candidates=[STRANGE_ITEM, 3], objective={"click": 0, "order": 0}, k=1).unknown_items == [2000]
    known = rank(ranker)
    assert (known.unknown_user, known.unknown_items, known.degraded) == (False, [], None)


@pytest.mark.parametrize("way", ["kept", "shared", "plain"])
def test_every_way_of_scoring_is_the_forward_of_the_network(ranker: Ranker, way: str) -> None:
    """Shares kept, shares made in the request, and plain rows: the probabilities of whole rows, to 1e-6."""
    state = ranker.state
    scorer = Scorer(state.model, state.catalogue, megabytes=512 if way == "kept" else 0)
    scorer.sharing = None if way == "plain" else scorer.sharing
    assert scorer.way == way
    for user in (1, 7, STRANGER):
        values = state.users.row({"user_id": user, "scenario": "feed"})[0].values
        encoded = state.encoder.encode({**values, "user_id": user, "scenario": "feed", "hour": 3}, 0)
        places = state.catalogue.places([*ITEMS[::-1], STRANGE_ITEM])
        rows = state.seen(
            {**values, "user_id": user, "scenario": "feed", "hour": 3},
            state.items([*ITEMS[::-1], STRANGE_ITEM], places, {}),
        )
        expected = as_probabilities(forward(state.model, state.model.encoder.encode(rows)), scorer.outputs)
        np.testing.assert_allclose(scorer.score(encoded, places), expected, rtol=0, atol=1e-6)


def test_a_network_that_cannot_share_is_served_plainly(ranker: Ranker) -> None:
    """A shared bottom has no scenario layer: its rows are scored whole."""
    state = ranker.state
    data = DataSpec(**dataclasses.asdict(state.model.encoder.layout), task_outputs=(1, 1))
    network = SharedBottom(data, SharedBottomConfig(embedding_width=4, bottom_units=(8,), tower_units=(4,))).eval()
    scorer = Scorer(dataclasses.replace(state.model, network=network), state.catalogue, megabytes=512)
    assert scorer.way == "plain"
    user = state.encoder.encode({"user_id": 1}, 1)
    assert scorer.score(user, np.arange(9)).shape == (9, 2)


def test_an_item_without_features_keeps_its_id(ranker: Ranker) -> None:
    """What the encoder knows and the snapshot does not: id known, features missing, not among "all"."""
    state = ranker.state
    rows = state.catalogue.rows.slice(0, 9).filter(np.array(ITEMS) != 4)
    catalogue = ItemCatalogue(state.model, ItemSnapshot(rows, state.catalogue.moment))
    scorer = Scorer(state.model, catalogue, megabytes=512)
    user = state.encoder.encode({"user_id": 1, "scenario": "search"}, 1)
    places = catalogue.places([4, 3, STRANGE_ITEM])
    assert (catalogue.items, catalogue.unknown[places].tolist()) == (8, [False, False, True])
    nulls = {name: [None] for name in catalogue.rows.column_names if name != "item_id"}
    seen = state.seen({"user_id": 1, "scenario": "search"}, state.items([4], np.array([4]), nulls))
    expected = as_probabilities(forward(state.model, state.model.encoder.encode(seen)), scorer.outputs)
    np.testing.assert_allclose(scorer.score(user, places)[0], expected[0], atol=1e-6)


def test_old_rows_are_counted_by_view(project: Path, tmp_path: Path) -> None:
    """Against a limit in hours: the user's rows and the items'; without a limit none, within it none."""
    log_of_2026 = tiny_project.ranker(project, tmp_path / "a.db", outdated_hours=1.0)
    assert rank(log_of_2026).stale == {"user": 1, "user_in_scenario": 1, "item": 9}
    assert rank(log_of_2026, candidates=[1, STRANGE_ITEM], user_id=STRANGER).stale == {"item": 1}
    hours = (time.time() - world.START.timestamp()) / 3600 + 24 * 365
    log_of_2026.oldest = hours * 3600
    assert rank(log_of_2026).stale == {}


def test_the_answer_names_the_moment_of_its_features(ranker: Ranker) -> None:
    """That of the snapshot."""
    assert f"{rank(ranker).data_date:%Y-%m-%dT%H:%M}" == "2026-01-11T01:00"


def test_an_explanation_says_what_the_score_comes_from(ranker: Ranker) -> None:
    """Gates that sum to one, nobody listens to himself, and what is left of a logit without a group of features."""
    found = rank(ranker, explain=True, k=4)
    explanation = found.explanation
    assert explanation is not None
    assert explanation.scenario_gates is not None
    assert explanation.attention is not None
    assert explanation.task_gates is not None
    assert explanation.scenario_gates.shape[:2] == (4, 4)  # G and three scenarios
    np.testing.assert_allclose(explanation.scenario_gates.sum(axis=2), 1, rtol=1e-5)
    assert explanation.attention[1] == 0
    assert explanation.attention.sum() == pytest.approx(1)
    assert {name: gates.shape[0] for name, gates in explanation.task_gates.items()} == {"click": 4, "order": 4}
    groups = {"user_id", "item_id", "scenario", "context", "user", "item", "user_in_scenario"}
    assert set(explanation.contributions) == groups
    without = said(rank(ranker, overrides={"user": dict.fromkeys(user_columns(ranker))}))
    click = np.array([said(found)[item] for item in found.items])
    left = np.log(click / (1 - click)) - explanation.contributions["user"]["click"]
    expected = [np.log(without[item] / (1 - without[item])) for item in found.items]
    np.testing.assert_allclose(left, expected, atol=1e-4)


def user_columns(ranker: Ranker) -> list[str]:
    """The features of the view `user`."""
    (view,) = [view for view in ranker.state.model.views if view.name == "user"]
    return [column.name for column in view.columns if column.is_feature]


@pytest.mark.parametrize("fault", ["raises", "not finite"])
def test_where_the_model_fails_the_label_rates_rank(
    project: Path, ranker: Ranker, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """By the rate of the scenario and the item's own against the mean of the items, flagged with the reason."""

    def score(user: Batch, places: np.ndarray, rows: Batch | None) -> np.ndarray:
        if fault == "raises":
            raise RuntimeError("no memory")
        return np.full((len(places), 2), np.nan)

    monkeypatch.setattr(ranker.state.scorer, "score", score)
    found = rank(ranker, candidates=[*ITEMS, STRANGE_ITEM])
    assert found.degraded
    assert found.degraded.startswith("model: ")
    labels = json.loads((project / tiny_project.MODEL / REFERENCE).read_text())["labels"]["click"]
    observed, positive = np.array(labels).sum(axis=0)[1]
    assert said(found)[STRANGE_ITEM] == pytest.approx(positive / observed)
    rates = ranker.state.catalogue.rows["item_click_rate_all"].to_pylist()  # item 0 first
    click = said(found)
    assert sorted(ITEMS, key=lambda item: click[item]) == sorted(ITEMS, key=lambda item: rates[item])
    assert (np.diff(found.scores) <= 0).all()


def test_features_of_pairs_are_refused(ranker: Ranker) -> None:
    """A model that reads features by user and item cannot be served at one read per request, and says so."""
    pair = View(name="pair", keys=("user_id", "item_id"), columns=(ranker.state.model.views[1].columns[0],))
    settings = tiny_project.with_read_timeout(ROOT).store
    with pytest.raises(ModelError, match="view pair"):
        UserFeatures(ranker.state.users.store, ranker.state.schema, (pair,), frozenset({"price"}), settings)


@pytest.mark.usefixtures("ranker")
def test_one_torch_thread() -> None:
    """A request is too small for two."""
    assert torch.get_num_threads() == 1
