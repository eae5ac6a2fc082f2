"""The service on the tiny project: orders, flags and problems of POST /rank, GET /model, checks at the start."""

import gc
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bentoml.exceptions import BentoMLException
from hypothesis import given, settings
from hypothesis import strategies as st

from common import params
from common.paths import ROOT
from serving.ranking.request import request_type
from serving.service import RankingService, freeze_gc
from tests.support import tiny_project, world
from tests.support.serving import problem_of

ITEMS = list(range(9))  # all items of the tiny world
UNKNOWN_USERS, UNKNOWN_ITEM = (1000, 1001), 2000
pytestmark = pytest.mark.integration


def post(client: Any, **changes: Any) -> Any:
    """The response to a valid request with changes."""
    return client.post("/rank", json={"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes)


def rank(client: Any, **changes: Any) -> dict:
    """The ranking that answers a valid request with changes."""
    response = post(client, **changes)
    assert response.status_code == 200, response.text
    return response.json()


def test_items_are_ordered_by_the_objective(client: Any) -> None:
    """Score = sum of weight x probability, best first, every item once, lists in parallel."""
    ranking = rank(client, objective={"click": 2, "order": 3})
    assert sorted(ranking["item_ids"]) == ITEMS
    click, order = (np.array(ranking["probabilities"][task]) for task in ("click", "order"))
    np.testing.assert_allclose(ranking["scores"], 2 * click + 3 * order, rtol=1e-12)
    assert ranking["scores"] == sorted(ranking["scores"], reverse=True)
    assert ((click > 0) & (click < 1)).all()


def test_the_objective_defaults_to_the_parameters(client: Any) -> None:
    """In params.yaml the weights are click 1 and order 4."""
    assert rank(client) == rank(client, objective={"click": 1.0, "order": 4.0})


def test_the_objective_changes_the_order_and_not_the_probabilities(client: Any) -> None:
    """By click alone and by order alone the items are ordered differently, with the same probabilities."""
    by_click, by_order = (rank(client, objective={"click": 1 - order, "order": order}) for order in (0, 1))
    assert by_click["item_ids"] != by_order["item_ids"]
    one, other = (dict(zip(r["item_ids"], r["probabilities"]["click"], strict=True)) for r in (by_click, by_order))
    assert one == other


def test_ties_stay_in_the_order_of_the_request(client: Any) -> None:
    """With an objective of zeros all scores are equal, and the order is that of the candidates."""
    items = [5, 1, 8, 0]
    assert rank(client, candidates=items, objective={"click": 0, "order": 0})["item_ids"] == items


def test_a_probability_does_not_depend_on_the_other_candidates(client: Any) -> None:
    """A single candidate has the probability that it has among others, to float32."""
    among_others = rank(client)
    for item, click in zip(among_others["item_ids"], among_others["probabilities"]["click"], strict=True):
        assert rank(client, candidates=[item])["probabilities"]["click"][0] == pytest.approx(click, rel=1e-5)


def test_scenario_and_context_change_the_probabilities(client: Any) -> None:
    """Another scenario and another hour give other probabilities; a null hour is an unknown hour."""
    answers = [rank(client, **change) for change in ({"scenario": "feed"}, {"context": {"hour": 3}}, {})]
    assert len({json.dumps(answer["probabilities"]) for answer in answers}) == 3
    assert rank(client, context={"hour": None}) == rank(client)


def test_known_ids_are_not_flagged(client: Any) -> None:
    """All users and items of the tiny world are in the training rows."""
    ranking = rank(client)
    assert (ranking["unknown_user"], ranking["unknown_items"]) == (False, [])


def test_unknown_ids_read_the_unknown_row_and_are_flagged(client: Any) -> None:
    """All unknown ids get one answer, that of the trained unknown row; known items among them keep theirs."""
    items, zeros = [UNKNOWN_ITEM, 3, UNKNOWN_ITEM + 1], {"click": 0, "order": 0}
    ranking, again = (rank(client, user_id=user, candidates=items, objective=zeros) for user in UNKNOWN_USERS)
    assert (ranking["unknown_user"], ranking["unknown_items"]) == (True, [UNKNOWN_ITEM, UNKNOWN_ITEM + 1])
    first, known, second = ranking["probabilities"]["click"]
    assert first == pytest.approx(second, rel=1e-6) != known  # a product rounds by the position of its row
    assert ranking == again


def test_the_answer_names_the_model(client: Any, project: Path) -> None:
    """The tag is the first digits of the sha256 of the weights."""
    weights = (project / tiny_project.MODEL / "weights.safetensors").read_bytes()
    assert rank(client)["model"] == hashlib.sha256(weights).hexdigest()[:12]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"scenario": "home"}, "scenario: Input should be 'feed', 'search' or 'channel', found 'home'"),
        ({"candidates": []}, "candidates: List should have at least 1 item"),
        ({"candidates": list(range(1001))}, "candidates: List should have at most 1000 items"),
        ({"candidates": [3, 3]}, "candidates: Items must be distinct, found 3 more than once"),
        ({"user_id": "1"}, "user_id: Input should be a valid integer, found '1'"),
        ({"top": 3}, "top: Extra inputs are not permitted, found 3"),
    ],
)
def test_a_broken_rule_is_a_422_with_field_and_rule(client: Any, change: dict, detail: str) -> None:
    """Unknown scenario, empty, too long, duplicate, wrong type, unknown field: problem details (RFC 9457)."""
    problem = problem_of(post(client, **change), 422)
    assert problem["detail"].startswith(detail)
    (broken,) = problem["errors"]
    assert f"{broken['field']}: {broken['rule']}" == problem["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"1" * 10_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"user_id": NaN}', 422),
        (b'{"user_id": "\\ud800"}', 400),
    ],
    ids=["empty", "truncated", "no UTF-8", "deep", "long", "list", "null", "not a number", "lone surrogate"],
)
@pytest.mark.parametrize("path", ["/rank", "/rank_batch"])
def test_a_body_that_is_not_a_request_is_refused(client: Any, path: str, body: bytes, status: int) -> None:
    """A body that is not JSON is a 400, JSON that is not a request a 422; each says where the error is."""
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    expected = 422 if path == "/rank_batch" and body == b"[]" else status
    assert problem_of(response, expected)["errors"]


def test_items_are_excluded_and_spread_over_values(client: Any) -> None:
    """As a user types it: what he has seen is left out, at most one item of a tag is in the first three ranks."""
    plain = rank(client)
    assert "diversified" not in plain
    limited = rank(client, exclude="seen", diversify={"by": "tags", "most": 1, "first": 3})
    assert set(limited["item_ids"]) < set(plain["item_ids"])
    assert 1 <= limited["diversified"] <= 3
    batch = [{"user_id": 1, "scenario": "search", "candidates": ITEMS, "exclude": ITEMS[:8]}] * 2
    assert [answer["item_ids"] for answer in client.post("/rank_batch", json=batch).json()] == [[8], [8]]


def test_a_column_without_groups_is_refused_with_the_possible_ones(client: Any) -> None:
    """The problem names the field, the columns of the items that can be limited, and what was found."""
    problem = problem_of(post(client, diversify={"by": "price", "most": 2}), 422)
    assert problem["errors"] == [{"field": "diversify.by", "rule": "Input should be 'tags', found 'price'"}]


def test_a_batch_gives_the_answers_of_its_requests(client: Any) -> None:
    """They are equal to the answers of single requests, in order."""
    requests = [{"user_id": user, "scenario": "search", "candidates": ITEMS} for user in (1, 5, 1000)]
    answers = client.post("/rank_batch", json=requests).json()
    assert answers == [client.post("/rank", json=request).json() for request in requests]


def test_a_broken_request_of_a_batch_is_named_by_its_index(client: Any) -> None:
    """The whole batch is refused, and so is one that is too long."""
    valid = {"user_id": 1, "scenario": "search", "candidates": ITEMS}
    problem = problem_of(client.post("/rank_batch", json=[valid, valid | {"k": 0}]), 422)
    assert [broken["field"] for broken in problem["errors"]] == ["1.k"]
    assert problem_of(client.post("/rank_batch", json=[valid] * 33), 422)["errors"][0]["field"] == "body"


def test_the_answer_has_the_milliseconds_of_each_phase(client: Any) -> None:
    """They are in the header Server-Timing, which browsers and proxies know."""
    timing = post(client).headers["server-timing"]
    assert re.fullmatch(r"features;dur=[\d.]+, encode;dur=[\d.]+, model;dur=[\d.]+", timing)


def test_get_model_describes_the_model_in_use(client: Any) -> None:
    """Tag, days of training, tasks, what a request may name, and the limits."""
    model = client.get("/model").json()
    assert model["tag"] == rank(client)["model"]
    assert (model["network"], model["dataset"], model["maximum_candidates"]) == ("hinet_plus", "tiny", 1000)
    assert model["first_day"] == "2026-01-05" <= model["last_day"]
    assert model["tasks"] == {"click": ["click"], "order": ["order"]}
    assert model["columns"]["context"] == ["hour"]
    assert {"price", "tags"} < set(model["columns"]["item"])
    assert model["schema_fingerprint"] == world.schema().fingerprint()


@settings(deadline=None)
@given(
    user=st.integers(-(2**63), 2**63 - 1),
    items=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20, unique=True),
    scenario=st.sampled_from(world.schema().scenarios),
    hour=st.none() | st.integers(0, 23),
)
def test_any_valid_request_is_answered(client: Any, user: int, items: list, scenario: str, hour: int | None) -> None:
    """Whatever the ids are, the answer is a ranking of exactly these items, finite, best first."""
    ranking = rank(client, user_id=user, candidates=items, scenario=scenario, context={"hour": hour})
    assert sorted(ranking["item_ids"]) == sorted(items)
    assert np.isfinite(ranking["scores"]).all()
    assert ranking["scores"] == sorted(ranking["scores"], reverse=True)


def test_serving_changes_no_file_that_it_reads(client: Any, project: Path) -> None:
    """The online store belongs to DVC: its bytes stay, and no file appears in its folder."""
    before = (project / tiny_project.ONLINE).read_bytes()
    rank(client)
    assert (project / tiny_project.ONLINE).read_bytes() == before
    assert {path.name for path in (project / tiny_project.ONLINE).parent.glob("online.db*")} == {"online.db"}


@pytest.mark.parametrize("sources", [["impression"], ["impression", "profile"], ["profile", "statistics"]], ids=str)
def test_a_model_with_fewer_feature_sources_is_served(tmp_path: Path, sources: list[str]) -> None:
    """What encode.sources leaves out is not read; a model without ids has no unknown ones."""
    root = tiny_project.build(tmp_path, encode__sources=sources)
    ranker = tiny_project.ranker(root, tmp_path / "registry.db")
    accepted = request_type(world.schema(), params.load(root / "params.yaml").serve, ranker.loaded.model.views)
    request = accepted(user_id=UNKNOWN_USERS[0], scenario="feed", candidates=[1, UNKNOWN_ITEM, 2])
    result = ranker.rank(request)
    seen = ranker.rank(accepted(user_id=1, scenario="feed", candidates=ITEMS, exclude="seen"))
    assert 0 < len(seen.items) < len(ITEMS), "what was seen is read from the store, even if the model does not read it"
    assert sorted(result.items) == [1, 2, UNKNOWN_ITEM]
    reads_ids = "impression" in sources
    assert (result.unknown_user, result.unknown_items) == (reads_ids, [UNKNOWN_ITEM] if reads_ids else [])


@pytest.mark.parametrize("name", ["HINET_MODEL", "HINET_ONLINE_STORE"])
def test_a_missing_file_is_reported_before_any_worker_starts(
    client: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The message has the path, that `dvc repro` makes it, and the variable that names another."""
    monkeypatch.setenv(name, "nowhere")
    with pytest.raises(BentoMLException, match=f"nowhere does not exist: run `dvc repro`, or set {name}"):
        RankingService.inner.check()


@pytest.mark.parametrize("key", ["", "short", "with a space in between", "ключ-ключ-ключ-ключ"])
def test_an_unsafe_api_key_is_reported_before_any_worker_starts(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A short key and an empty variable are errors; the message has the rule and how to make a key, not the key."""
    monkeypatch.setenv("HINET_API_KEY", key)
    with pytest.raises(BentoMLException, match=r"HINET_API_KEY: expected 16 letters or more.*make one with") as error:
        RankingService.inner.check()
    assert not key or key not in str(error.value)


@pytest.mark.parametrize("workers", ["0", "two", "-1", ""])
def test_a_wrong_number_of_workers_is_reported(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    """The message has variable, rule and value; the service does not start with one worker instead."""
    monkeypatch.setenv("HINET_WORKERS", workers)
    with pytest.raises(BentoMLException, match=f"HINET_WORKERS: Input should be .*, found '{workers}'"):
        RankingService.inner.check()


def test_objects_of_the_start_are_excluded_from_garbage_collection() -> None:
    """The objects of torch and Feast cause no pause while requests are answered."""
    freeze_gc()
    try:
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 10_000
    finally:
        gc.unfreeze()


def test_the_process_that_only_watches_stays_light() -> None:
    """Importing the service, as the main process of `bentoml serve` does, imports no torch, feast or duckdb."""
    code = "import sys, serving.service; sys.exit(' '.join({'torch', 'feast', 'duckdb'} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
