"""POST /rank: what is answered, by what order, and what is refused."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import pytest
import world
from bentoml.exceptions import BentoMLException
from hypothesis import given
from hypothesis import strategies as st

import params
from serving.request import request_type
from serving.service import RankingService

ITEMS = list(range(9))  # all that the tiny world has
STRANGERS, STRANGE_ITEM = (1000, 1001), 2000


def post(client: Any, **changes: Any) -> Any:
    """The response to a valid request with changes."""
    return client.post("/rank", json={"user_id": 1, "scenario": "search", "candidates": ITEMS} | changes)


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
    weights = (project / artifacts.MODEL / "weights.safetensors").read_bytes()
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
def test_a_broken_rule_is_a_400_that_names_field_and_rule(client: Any, change: dict, told: str) -> None:
    """Unknown scenario, empty, oversized, duplicate, ill-typed, unknown field."""
    response = post(client, **change)
    assert response.status_code == 400
    assert response.json()["error"].startswith(told)
    assert set(response.json()) == {"error", "detail"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000, b"[]", b"null", b'{"user_id": NaN}'],
    ids=["nothing", "half", "no UTF-8", "deep", "long", "list", "null", "not a number"],
)
def test_a_body_that_is_no_request_is_a_400(client: Any, body: bytes) -> None:
    """Nothing, half of something, no UTF-8, too deep, too long, something else."""
    response = client.post("/rank", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]


def test_a_body_must_be_declared_as_json(client: Any) -> None:
    """What curl sends without a header is told which header it lacks."""
    response = client.post("/rank", content=b'{"user_id": 1}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]


def test_other_methods_and_paths_are_refused(client: Any) -> None:
    """GET /rank is a 405 and an unknown path a 404."""
    assert client.get("/rank").status_code == 405
    assert client.post("/order").status_code == 404


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


def test_the_page_of_the_api_describes_the_request(client: Any) -> None:
    """/docs.json lists /rank with the schema's scenarios, its refusals, and an example that is answered."""
    page = client.get("/docs.json").json()
    operation = page["paths"]["/rank"]["post"]
    assert set(operation["responses"]) == {"200", "4XX"}
    request = page["components"]["schemas"]["RankRequest"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/RankRequest")
    assert request["properties"]["scenario"]["enum"] == list(world.schema().scenarios)
    assert client.post("/rank", json=request["example"]).status_code == 200
    assert {"/healthz", "/livez", "/readyz", "/metrics"} <= set(page["paths"])


def test_serving_does_not_change_what_it_reads(client: Any, project: Path) -> None:
    """The online store is DVC's: not one byte of it changes, and no file appears beside it."""
    before = (project / artifacts.ONLINE).read_bytes()
    rank(client)
    assert (project / artifacts.ONLINE).read_bytes() == before
    assert {path.name for path in (project / artifacts.ONLINE).parent.glob("online.db*")} == {"online.db"}


@pytest.mark.parametrize("sources", [["impression"], ["impression", "profile"], ["profile", "statistics"]], ids=str)
def test_a_model_may_see_less(tmp_path: Path, sources: list[str]) -> None:
    """What encode.sources leaves out is not read; where the model sees no ids, none is unknown."""
    root = artifacts.build(tmp_path, encode__sources=sources)
    ranker = artifacts.ranker(root, tmp_path / "registry.db")
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


def test_the_process_that_only_watches_stays_light() -> None:
    """Importing the service, as `bentoml serve` does in its own process, imports neither torch nor feast."""
    code = "import sys, serving.service; sys.exit(' '.join({'torch', 'feast', 'duckdb'} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
