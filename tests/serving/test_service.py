"""POST /rank: what is answered, by what order, and what is refused."""

import dataclasses
import gc
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bentoml.exceptions import BentoMLException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import params
from common.paths import ROOT
from serving import service
from serving.http.model_info import describe_model
from serving.http.problem_details import ProblemError
from serving.ranking.request import request_type
from serving.service import RankingService, settle
from tests.support import tiny_project, world

ITEMS = list(range(9))  # all that the tiny world has
STRANGERS, STRANGE_ITEM = (1000, 1001), 2000


def post(client: Any, **changes: Any) -> Any:
    """The response to a valid request with changes."""
    return client.post("/rank", json={"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes)


def problem_of(response: Any, status: int) -> dict:
    """The problem details of a response that has to have this status."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem = response.json()
    assert {"type", "title", "status", "detail", "errors"} <= set(problem)
    assert problem["status"] == status
    return problem


def rank(client: Any, **changes: Any) -> dict:
    """The ranking that answers a valid request with changes."""
    response = post(client, **changes)
    assert response.status_code == 200, response.text
    return response.json()


def test_items_come_ordered_by_the_objective(client: Any) -> None:
    """Score = sum of weight x probability, best first, every item once, lists in parallel."""
    found = rank(client, objective={"click": 2, "order": 3})
    assert sorted(found["item_ids"]) == ITEMS
    click, order = (np.array(found["probabilities"][task]) for task in ("click", "order"))
    np.testing.assert_allclose(found["scores"], 2 * click + 3 * order, rtol=1e-12)
    assert found["scores"] == sorted(found["scores"], reverse=True)
    assert ((click > 0) & (click < 1)).all()


def test_the_objective_defaults_to_the_parameters(client: Any) -> None:
    """params.yaml: click 1, order 4."""
    assert rank(client) == rank(client, objective={"click": 1.0, "order": 4.0})


def test_the_objective_decides_the_order_and_not_the_probabilities(client: Any) -> None:
    """By click alone and by order alone the tiny world's items stand differently, with the same probabilities."""
    by_click, by_order = (rank(client, objective={"click": 1 - order, "order": order}) for order in (0, 1))
    assert by_click["item_ids"] != by_order["item_ids"]
    one, other = (dict(zip(r["item_ids"], r["probabilities"]["click"], strict=True)) for r in (by_click, by_order))
    assert one == other


def test_ties_stay_in_the_order_of_the_request(client: Any) -> None:
    """Where nothing counts, nothing moves."""
    items = [5, 1, 8, 0]
    assert rank(client, candidates=items, objective={"click": 0, "order": 0})["item_ids"] == items


def test_a_probability_does_not_depend_on_the_other_items(client: Any) -> None:
    """An item alone is what it is among others, to float32."""
    together = rank(client)
    for item, click in zip(together["item_ids"], together["probabilities"]["click"], strict=True):
        assert rank(client, candidates=[item])["probabilities"]["click"][0] == pytest.approx(click, rel=1e-5)


def test_scenario_and_context_count(client: Any) -> None:
    """Another scenario and another hour give other probabilities; a missing hour is an unknown hour."""
    answers = [rank(client, **change) for change in ({"scenario": "feed"}, {"context": {"hour": 3}}, {})]
    assert len({json.dumps(answer["probabilities"]) for answer in answers}) == 3
    assert rank(client, context={"hour": None}) == rank(client)


def test_known_ids_are_not_marked(client: Any) -> None:
    """The tiny world's users and items are all in the training rows."""
    found = rank(client)
    assert (found["unknown_user"], found["unknown_items"]) == (False, [])


def test_unknown_ids_are_served_by_the_unknown_row_and_marked(client: Any) -> None:
    """All strangers get one answer, that of the trained unknown row; known items beside them keep theirs."""
    items, nothing_counts = [STRANGE_ITEM, 3, STRANGE_ITEM + 1], {"click": 0, "order": 0}
    found, again = (rank(client, user_id=user, candidates=items, objective=nothing_counts) for user in STRANGERS)
    assert (found["unknown_user"], found["unknown_items"]) == (True, [STRANGE_ITEM, STRANGE_ITEM + 1])
    first, known, second = found["probabilities"]["click"]
    assert first == second != known
    assert found == again


def test_the_answer_names_the_model(client: Any, project: Path) -> None:
    """The tag is the first digits of the sha256 of the weights."""
    weights = (project / tiny_project.MODEL / "weights.safetensors").read_bytes()
    assert rank(client)["model"] == hashlib.sha256(weights).hexdigest()[:12]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scenario": "home"}, "scenario: Input should be 'feed', 'search' or 'channel', found 'home'"),
        ({"candidates": []}, "candidates: List should have at least 1 item"),
        ({"candidates": list(range(1001))}, "candidates: List should have at most 1000 items"),
        ({"candidates": [3, 3]}, "candidates: Items must be distinct, found 3 more than once"),
        ({"user_id": "1"}, "user_id: Input should be a valid integer, found '1'"),
        ({"top": 3}, "top: Extra inputs are not permitted, found 3"),
    ],
)
def test_a_broken_rule_is_a_422_that_names_field_and_rule(client: Any, change: dict, told: str) -> None:
    """Unknown scenario, empty, oversized, duplicate, ill-typed, unknown field: problem details (RFC 9457)."""
    problem = problem_of(post(client, **change), 422)
    assert problem["detail"].startswith(told)
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
    ids=["nothing", "half", "no UTF-8", "deep", "long", "list", "null", "not a number", "half a character"],
)
@pytest.mark.parametrize("path", ["/rank", "/rank_batch"])
def test_a_body_that_is_no_request_is_refused(client: Any, path: str, body: bytes, status: int) -> None:
    """What is no JSON is a 400, JSON that is no request a 422: each says where the fault is."""
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    expected = 422 if path == "/rank_batch" and body == b"[]" else status
    assert problem_of(response, expected)["errors"]


def test_many_users_are_ranked_at_once(client: Any) -> None:
    """The answers are those of single requests, in order."""
    requests = [{"user_id": user, "scenario": "search", "candidates": ITEMS} for user in (1, 5, 1000)]
    found = client.post("/rank_batch", json=requests).json()
    assert found == [client.post("/rank", json=request).json() for request in requests]


def test_a_broken_element_of_a_batch_is_told_by_its_place(client: Any) -> None:
    """And nothing of the batch is answered."""
    valid = {"user_id": 1, "scenario": "search", "candidates": ITEMS}
    problem = problem_of(client.post("/rank_batch", json=[valid, valid | {"k": 0}]), 422)
    assert [broken["field"] for broken in problem["errors"]] == ["1.k"]
    assert problem_of(client.post("/rank_batch", json=[valid] * 33), 422)["errors"][0]["field"] == "body"


def test_the_answer_says_where_the_time_went(client: Any) -> None:
    """In the header that browsers and proxies know: milliseconds by phase."""
    timing = post(client).headers["server-timing"]
    assert re.fullmatch(r"features;dur=[\d.]+, encode;dur=[\d.]+, model;dur=[\d.]+", timing)


def test_the_model_tells_of_itself(client: Any, project: Path) -> None:
    """Tag, days of training, metrics by cell, what a request may name, and the limits."""
    card = client.get("/model").json()
    assert card["tag"] == rank(client)["model"]
    assert (card["network"], card["dataset"], card["maximum_candidates"]) == ("hinet", "tiny", 1000)
    assert card["first_day"] == "2026-01-05" <= card["last_day"]
    assert card["tasks"] == {"click": ["click"], "order": ["order"]}
    assert card["columns"]["context"] == ["hour"]
    assert {"price", "tags"} < set(card["columns"]["item"])
    assert card["schema_fingerprint"] == world.schema().fingerprint()


def test_the_metrics_of_the_kept_epoch_are_told(project: Path, tmp_path: Path) -> None:
    """Those on the validation rows, by scenario and task; while another model takes its place it is a 503."""
    folder, limits = (
        shutil.copytree(project / tiny_project.MODEL, tmp_path / "model"),
        tiny_project.with_read_timeout(project).limits,
    )
    (folder / "curves.json").write_text(json.dumps([{"epoch": n, "cells": {"feed/click": n / 10}} for n in (1, 2, 3)]))
    facts = json.loads((folder / "model.json").read_text()) | {"summary": {"best_epoch": 2}}
    (folder / "model.json").write_text(json.dumps(facts))
    state = tiny_project.ranker(project, tmp_path / "registry.db").state
    state = dataclasses.replace(state, sources=dataclasses.replace(state.sources, model=folder))
    assert describe_model(state, limits)["metrics"] == {"feed/click": 0.2}
    (folder / "model.json").write_text(json.dumps(facts | {"sha256": {"weights.safetensors": "other"}}))
    with pytest.raises(ProblemError, match="another model is being read"):
        describe_model(state, limits)


@settings(deadline=None)
@given(
    user=st.integers(-(2**63), 2**63 - 1),
    items=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20, unique=True),
    scenario=st.sampled_from(world.schema().scenarios),
    hour=st.none() | st.integers(0, 23),
)
def test_any_valid_request_is_answered(client: Any, user: int, items: list, scenario: str, hour: int | None) -> None:
    """Whatever the ids are: a ranking of exactly these items, finite, best first."""
    found = rank(client, user_id=user, candidates=items, scenario=scenario, context={"hour": hour})
    assert sorted(found["item_ids"]) == sorted(items)
    assert np.isfinite(found["scores"]).all()
    assert found["scores"] == sorted(found["scores"], reverse=True)


IDS, NUMBERS = st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False, allow_infinity=False)
JUNK = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
RANGE = st.dictionaries(st.sampled_from(["min", "max"]), NUMBERS, max_size=2)
ASKED = {
    "user_id": IDS,
    "scenario": st.sampled_from(world.schema().scenarios),
    "candidates": st.just("all") | st.lists(IDS | st.integers(0, 9), max_size=5),
    "filters": st.fixed_dictionaries({}, optional={"price": RANGE, "tags": st.lists(st.text(max_size=3), max_size=2)}),
    "k": st.none() | st.integers(-1, 1002),
    "objective": st.fixed_dictionaries({"click": st.floats(0, 1e308), "order": st.floats(0, 1e308)}),
    "context": st.fixed_dictionaries({}, optional={"hour": st.none() | st.integers(-1, 24)}),
    "overrides": st.fixed_dictionaries(
        {},
        optional={
            "user": st.fixed_dictionaries(
                {},
                optional={
                    "city": st.text(max_size=3),
                    "user_clicks_7d": NUMBERS,
                    "user_recent_items": st.lists(IDS, max_size=9),
                },
            ),
            "items": st.fixed_dictionaries(
                {},
                optional={
                    "price": st.lists(NUMBERS, max_size=5),
                    "tags": st.lists(st.lists(st.text(max_size=3)), max_size=5),
                },
            ),
        },
    ),
    "explain": st.booleans(),
}


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional={name: asked | JUNK for name, asked in ASKED.items()}), st.booleans())
def test_whatever_is_asked_is_answered_or_refused(client: Any, body: dict, complete: bool) -> None:
    """Any mixture of what is right and what is not: a ranking without gaps, or a 422; never a fault of ours."""
    body = ({"user_id": 1, "scenario": "feed", "candidates": [1, 2, 3]} if complete else {}) | body
    response = client.post("/rank", json=body)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 200:
        assert None not in response.json()["scores"], response.text


def test_serving_does_not_change_what_it_reads(client: Any, project: Path) -> None:
    """The online store is DVC's: not one byte of it changes, and no file appears beside it."""
    before = (project / tiny_project.ONLINE).read_bytes()
    rank(client)
    assert (project / tiny_project.ONLINE).read_bytes() == before
    assert {path.name for path in (project / tiny_project.ONLINE).parent.glob("online.db*")} == {"online.db"}


@pytest.mark.parametrize("sources", [["impression"], ["impression", "profile"], ["profile", "statistics"]], ids=str)
def test_a_model_may_see_less(tmp_path: Path, sources: list[str]) -> None:
    """What encode.sources leaves out is not read; where the model sees no ids, none is unknown."""
    root = tiny_project.build(tmp_path, encode__sources=sources)
    ranker = tiny_project.ranker(root, tmp_path / "registry.db")
    accepted = request_type(world.schema(), params.load(root / "params.yaml").serve)
    found = ranker.rank(accepted(user_id=STRANGERS[0], scenario="feed", candidates=[1, STRANGE_ITEM, 2]))
    assert sorted(found.items) == [1, 2, STRANGE_ITEM]
    sees_ids = "impression" in sources
    assert (found.unknown_user, found.unknown_items) == (sees_ids, [STRANGE_ITEM] if sees_ids else [])


@pytest.mark.parametrize("name", ["HINET_MODEL", "HINET_ONLINE_STORE"])
def test_what_is_missing_is_told_before_any_worker_starts(
    client: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Which path, that `dvc repro` makes it, and how to name another."""
    monkeypatch.setenv(name, "nowhere")
    with pytest.raises(BentoMLException, match=f"nowhere does not exist: run `dvc repro`, or set {name}"):
        RankingService.inner.check()


@pytest.mark.parametrize("key", ["", "short", "with a space in between", "ключ-ключ-ключ-ключ"])
def test_a_key_that_protects_nothing_is_told_before_any_worker_starts(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """An empty variable is no key, and not the wish to have none."""
    monkeypatch.setenv("HINET_API_KEY", key)
    with pytest.raises(BentoMLException, match="HINET_API_KEY must have 16 letters or more"):
        RankingService.inner.check()


@pytest.mark.parametrize("workers", ["0", "two", "-1", ""])
def test_a_wrong_number_of_workers_is_told(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    """Instead of one worker, silently."""
    monkeypatch.setattr(service, "WORKERS", workers)
    with pytest.raises(BentoMLException, match=f"HINET_WORKERS must be a number of processes.*found '{workers}'"):
        RankingService.inner.check()


def test_what_is_there_at_the_start_is_not_looked_at_again() -> None:
    """The objects of torch and Feast make no pause while requests are answered."""
    settle()
    try:
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 10_000
    finally:
        gc.unfreeze()


def test_the_process_that_only_watches_stays_light() -> None:
    """Importing the service, as `bentoml serve` does in its own process, imports neither torch nor feast."""
    code = "import sys, serving.service; sys.exit(' '.join({'torch', 'feast', 'duckdb'} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
