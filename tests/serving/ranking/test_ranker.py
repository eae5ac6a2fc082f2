"""The ranker: which candidates, with which values, in which order, with which flags."""

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
from models.model_folder import REFERENCE, build_network
from serving.ranking.feature_client import UserFeatures
from serving.ranking.item_catalogue import ItemCatalogue
from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest, request_type
from serving.ranking.result import RankingResult, ScoredCandidates
from serving.ranking.scorer import CACHED, FULL, SPLIT, Scorer, as_probabilities, forward
from tests.support import tiny_project, world

ITEMS = list(range(9))
UNKNOWN_ITEM, UNKNOWN_USER = 2000, 1000
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the tiny project, without a limit for outdated features."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("registry") / "registry.db", outdated_hours=None)


def request(ranker: Ranker, **changes: Any) -> Any:
    """A valid request with changes."""
    schema, views = ranker.loaded.schema, ranker.loaded.model.views
    accepted = request_type(schema, tiny_project.with_read_timeout(ROOT), views)
    return accepted(**{"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes)


def rank(ranker: Ranker, **changes: Any) -> RankingResult:
    """The result of a valid request with changes."""
    return ranker.rank(request(ranker, **changes))


def probabilities(result: RankingResult, task: str = "click") -> dict[int, float]:
    """The probability of a task by item."""
    return dict(zip(result.items, result.probabilities[task].tolist(), strict=True))


def test_all_candidates_are_the_items_of_the_snapshot(ranker: Ranker) -> None:
    """The answer is that to their ids; k cuts it, and the number of considered candidates is reported."""
    every, listed, three = (rank(ranker, **change) for change in ({"candidates": "all"}, {}, {"k": 3}))
    assert every.items == listed.items
    assert (three.items, three.considered) == (listed.items[:3], 9)
    np.testing.assert_array_equal(every.scores, listed.scores)


def test_filters_keep_the_items_with_matching_features(ranker: Ranker) -> None:
    """By a value, by one of a list's values, by a range; of listed or all candidates; an unknown item matches none."""
    rows = {row["item_id"]: row for row in ranker.loaded.catalogue.rows.slice(0, 9).to_pylist()}
    hot = {item for item, row in rows.items() if "hot" in row["tags"]}
    cheap = {item for item, row in rows.items() if row["price"] <= 50}
    assert hot - cheap
    assert hot & cheap
    assert set(rank(ranker, filters={"tags": "hot"}).items) == hot
    assert set(rank(ranker, filters={"tags": ["hot", "none"]}, candidates="all").items) == hot
    both = rank(ranker, filters={"tags": "hot", "price": {"max": 50}}, candidates=[*ITEMS, UNKNOWN_ITEM])
    assert (set(both.items), both.considered) == (hot & cheap, len(hot & cheap))
    empty = rank(ranker, filters={"price": {"min": 1e9}}, explain=True)
    assert empty.explanation is None
    assert (empty.items, empty.considered, len(empty.scores)) == ([], 0, 0)


def test_overridden_item_features_change_their_own_item_only(ranker: Ranker) -> None:
    """Another price of one candidate changes its probability alone; the snapshot's own prices change nothing."""
    columns = (ranker.loaded.catalogue.rows[name].to_pylist() for name in ("item_id", "price"))
    price_of = dict(zip(*columns, strict=True))
    prices = [price_of[item] for item in ITEMS]
    plain = probabilities(rank(ranker))
    same = probabilities(rank(ranker, overrides={"items": {"price": prices}}))
    assert same == pytest.approx(plain, abs=1e-6)
    prices[4] = 900.0
    changed = probabilities(rank(ranker, overrides={"items": {"price": prices}}))
    assert [item for item in ITEMS if abs(changed[item] - plain[item]) > 1e-5] == [4]
    filtered = rank(ranker, overrides={"items": {"price": prices}}, filters={"tags": "hot"})
    assert all(score == pytest.approx(changed[item], abs=1e-6) for item, score in probabilities(filtered).items())


def test_overridden_user_features_replace_those_of_the_store(ranker: Ranker) -> None:
    """Another city gives another answer; the city of the store gives the same."""
    row, _ = ranker.loaded.users.row({"user_id": 1, "scenario": "search"})
    same = rank(ranker, overrides={"user": {"city": row.values["city"]}})
    changed = rank(ranker, overrides={"user": {"city": "south" if row.values["city"] != "south" else "north"}})
    assert probabilities(same) == probabilities(rank(ranker)) != probabilities(changed)


def test_unknown_ids_of_the_answer_are_reported(ranker: Ranker) -> None:
    """The user, and those of the answered items that read the unknown row, in the order of the answer."""
    result = rank(ranker, user_id=UNKNOWN_USER, candidates=[UNKNOWN_ITEM, 3, UNKNOWN_ITEM + 1])
    assert (result.unknown_user, sorted(result.unknown_items)) == (True, [UNKNOWN_ITEM, UNKNOWN_ITEM + 1])
    first = rank(ranker, candidates=[UNKNOWN_ITEM, 3], objective={"click": 0, "order": 0}, k=1)
    assert first.unknown_items == [2000]
    known = rank(ranker)
    assert (known.unknown_user, known.unknown_items, known.degraded) == (False, [], None)


def test_observers_receive_every_ranking(ranker: Ranker) -> None:
    """Each gets request, result and scored candidates in order; a warm-up is not observed."""
    seen: list[tuple[str, RankRequest, RankingResult, ScoredCandidates]] = []

    class Observer:
        def __init__(self, name: str) -> None:
            self.name = name

        def ranked(self, request: RankRequest, result: RankingResult, candidates: ScoredCandidates) -> None:
            seen.append((self.name, request, result, candidates))

    observed = Ranker(ranker.loaded, tiny_project.with_read_timeout(ROOT))
    observed.observers += [Observer("first"), Observer("second")]
    observed_request = request(observed, k=2)
    observed.warm_up(observed.loaded, [observed_request])
    assert seen == []
    result = observed.rank(observed_request)
    assert [(name, one, returned) for name, one, returned, _ in seen] == [
        ("first", observed_request, result),
        ("second", observed_request, result),
    ]
    candidates = seen[0][3]
    assert candidates.keys == {"user_id": 1, "scenario": "search", "item_id": ITEMS}
    assert candidates.probabilities.shape == (9, 2)
    assert candidates.rows().num_rows == 9


@pytest.mark.parametrize("mode", [CACHED, SPLIT, FULL])
def test_every_mode_of_the_scorer_gives_the_forward_of_the_network(ranker: Ranker, mode: str) -> None:
    """Cached activations, activations computed per request, and complete rows agree to 1e-6 of a probability."""
    loaded = ranker.loaded
    scorer = Scorer(loaded.model, loaded.catalogue, megabytes=512 if mode == CACHED else 0)
    scorer.fused = None if mode == FULL else scorer.fused
    assert scorer.mode == mode
    for user in (1, 7, UNKNOWN_USER):
        values = loaded.users.row({"user_id": user, "scenario": "feed"})[0].values
        values = {**values, "user_id": user, "scenario": "feed", "hour": 3}
        items = [*ITEMS[::-1], UNKNOWN_ITEM]
        item_index = loaded.catalogue.indices(items)
        rows = loaded.encoder_rows(values, loaded.item_rows(items, item_index, {}))
        expected = as_probabilities(forward(loaded.model, loaded.model.encoder.encode(rows)), scorer.outputs)
        scores = scorer.score(loaded.encoder.encode(values, 0), item_index)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_a_network_without_a_splittable_first_layer_scores_complete_rows(ranker: Ranker) -> None:
    """A shared bottom has no scenario layer, so its scorer uses the network's forward."""
    loaded = ranker.loaded
    config = {"embedding_width": 4, "bottom_units": (8,), "tower_units": (4,)}
    layout = dataclasses.asdict(loaded.model.encoder.layout)
    network = build_network("shared_bottom", {"data": {**layout, "task_outputs": (1, 1)}, "config": config}).eval()
    scorer = Scorer(dataclasses.replace(loaded.model, network=network), loaded.catalogue, megabytes=512)
    assert scorer.mode == FULL
    user = loaded.encoder.encode({"user_id": 1}, 1)
    assert scorer.score(user, np.arange(9)).shape == (9, 2)


def test_an_item_missing_from_the_snapshot_keeps_its_id(ranker: Ranker) -> None:
    """If the encoder knows it, its id is known and its features are missing; it is not among "all"."""
    loaded = ranker.loaded
    rows = loaded.catalogue.rows.slice(0, 9).filter(np.array(ITEMS) != 4)
    catalogue = ItemCatalogue(loaded.model, ItemSnapshot(rows, loaded.catalogue.as_of))
    scorer = Scorer(loaded.model, catalogue, megabytes=512)
    values = {"user_id": 1, "scenario": "search"}
    item_index = catalogue.indices([4, 3, UNKNOWN_ITEM])
    assert (catalogue.items, catalogue.unknown[item_index].tolist()) == (8, [False, False, True])
    nulls = {name: [None] for name in catalogue.rows.column_names if name != "item_id"}
    complete = loaded.encoder_rows(values, loaded.item_rows([4], np.array([4]), nulls))
    expected = as_probabilities(forward(loaded.model, loaded.model.encoder.encode(complete)), scorer.outputs)
    scores = scorer.score(loaded.encoder.encode(values, 1), item_index)
    np.testing.assert_allclose(scores[0], expected[0], atol=1e-6)


def test_outdated_rows_are_counted_by_view(project: Path, tmp_path: Path) -> None:
    """Rows of the user and of the items that are older than the limit in hours; within the limit none."""
    ranker = tiny_project.ranker(project, tmp_path / "a.db", outdated_hours=1.0)
    assert rank(ranker).outdated == {"user": 1, "user_in_scenario": 1, "item": 9}
    assert rank(ranker, candidates=[1, UNKNOWN_ITEM], user_id=UNKNOWN_USER).outdated == {"item": 1}
    hours = (time.time() - world.START.timestamp()) / 3600 + 24 * 365
    ranker.max_age = hours * 3600
    assert rank(ranker).outdated == {}


def test_the_data_date_is_that_of_the_snapshot(ranker: Ranker) -> None:
    """The answer says up to when its features are."""
    assert f"{rank(ranker).data_date:%Y-%m-%dT%H:%M}" == "2026-01-11T01:00"


def test_an_explanation_has_gates_attention_and_contributions(ranker: Ranker) -> None:
    """Gates sum to one, a scenario has no attention to itself, a contribution is the logit's change without a group."""
    result = rank(ranker, explain=True, k=4)
    explanation = result.explanation
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
    without = probabilities(rank(ranker, overrides={"user": dict.fromkeys(user_columns(ranker))}))
    click = np.array([probabilities(result)[item] for item in result.items])
    remaining = np.log(click / (1 - click)) - explanation.contributions["user"]["click"]
    expected = [np.log(without[item] / (1 - without[item])) for item in result.items]
    np.testing.assert_allclose(remaining, expected, atol=1e-4)


def user_columns(ranker: Ranker) -> list[str]:
    """The features of the view `user`."""
    (view,) = [view for view in ranker.loaded.model.views if view.name == "user"]
    return [column.name for column in view.columns if column.is_feature]


@pytest.mark.parametrize("fault", ["raises", "not finite"])
def test_label_rates_rank_where_the_model_fails(
    project: Path, ranker: Ranker, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The fallback is the scenario's rate times the item's own over the mean; the answer is flagged with the reason."""

    def score(user: Batch, item_index: np.ndarray, rows: Batch | None) -> np.ndarray:
        if fault == "raises":
            raise RuntimeError("no memory")
        return np.full((len(item_index), 2), np.nan)

    monkeypatch.setattr(ranker.loaded.scorer, "score", score)
    result = rank(ranker, candidates=[*ITEMS, UNKNOWN_ITEM])
    assert result.degraded
    assert result.degraded.startswith("model: ")
    labels = json.loads((project / tiny_project.MODEL / REFERENCE).read_text())["labels"]["click"]
    observed, positive = np.array(labels).sum(axis=0)[1]
    click = probabilities(result)
    assert click[UNKNOWN_ITEM] == pytest.approx(positive / observed)
    rates = ranker.loaded.catalogue.rows["item_click_rate_all"].to_pylist()  # item 0 first
    assert sorted(ITEMS, key=lambda item: click[item]) == sorted(ITEMS, key=lambda item: rates[item])
    assert (np.diff(result.scores) <= 0).all()


def test_features_by_user_and_item_are_refused(ranker: Ranker) -> None:
    """They would cost a read per item, so a model that reads them cannot be served."""
    pair = View(name="pair", keys=("user_id", "item_id"), columns=(ranker.loaded.model.views[1].columns[0],))
    settings = tiny_project.with_read_timeout(ROOT).store
    with pytest.raises(ModelError, match="view pair"):
        UserFeatures(ranker.loaded.users.store, ranker.loaded.schema, (pair,), frozenset({"price"}), settings)


@pytest.mark.usefixtures("ranker")
def test_a_ranker_uses_one_torch_thread() -> None:
    """A request is too small for two."""
    assert torch.get_num_threads() == 1
