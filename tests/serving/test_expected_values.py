"""The service of a log with a watch time to predict, weights, positions and vectors, as its callers see it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pytest
from bentoml.exceptions import BentoMLException

from common.errors import ParameterError
from common.yaml_file import dump_yaml, read_yaml
from serving import service
from serving.http.descriptors import RANKING
from serving.http.middleware import ApiMiddleware
from serving.package import package
from serving.ranking.request import request_type
from serving.ranking.scorer import CACHED
from serving.shadow.protocol import encode_line
from serving.telemetry.impression_log import ImpressionLog
from tests.support import tiny_project, watched_world
from tests.support.impressions import open_log, rows_in
from tests.support.project_clone import clone, environment
from tests.support.service_process import bentoml_serve, complete_answer, wait_until_ready
from tests.support.serving import problem_of
from tests.support.shadow import worker_on
from tests.support.watched_world import IMAGE, LENGTH, QUERY, TASTE, WATCH

ITEMS, VECTOR = list(range(9)), [0.5, -1.0, 2.0]
BODY: dict[str, Any] = {"user_id": 1, "scenario": "search", "candidates": ITEMS, "context": {QUERY: VECTOR}}
OVERRIDES = {"user": {TASTE: [1.0, 2.0, 3.0]}, "items": {IMAGE: [None, *([[1, 2, 3]] * 8)]}}
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # starlette's on httpx


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of such a log after the pipeline."""
    return watched_world.build(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def opened(built: Path) -> Iterator[Any]:
    """An instance of the service on it; the methods of the shared one are restored afterwards."""
    with tiny_project.restored_service(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "serve_params", lambda: tiny_project.with_read_timeout(built))
        patch.setenv("HINET_MODEL", str(built / tiny_project.MODEL))
        patch.setenv("HINET_ONLINE_STORE", str(built / tiny_project.ONLINE))
        one = service.RankingService.inner()  # type: ignore[attr-defined]
        yield one
        one.close()


@pytest.fixture(scope="module")
def http(opened: Any) -> Any:
    """A client of its routes."""
    from starlette.testclient import TestClient

    return TestClient(ApiMiddleware(api=service.api))


def answer_to(http: Any, **changes: Any) -> dict[str, Any]:
    """The answer to the request with changes."""
    response = http.post("/rank", json=BODY | changes)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def by_item(answer: dict[str, Any]) -> dict[int, float]:
    """The expected watch time of each item."""
    return dict(zip(answer["item_ids"], answer["expected"][WATCH], strict=True))


def test_an_answer_has_seconds_beside_probabilities(http: Any, opened: Any) -> None:
    """Expected values are beyond 1, in the unit of the label, and in the score by their weight, by the fast path."""
    answer = answer_to(http)
    assert answer["degraded"] is None
    assert opened.ranker.loaded.scorer.mode == CACHED
    assert (list(answer["probabilities"]), list(answer["expected"])) == (["click", "order"], [WATCH])
    watch, click, order = (
        np.array(values) for values in (*answer["expected"].values(), *answer["probabilities"].values())
    )
    assert 0 < watch.min() < watch.max()
    assert watch.max() > 1
    np.testing.assert_allclose(answer["scores"], click + order + 0.05 * watch)
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    only = answer_to(http, objective={"click": 0, "order": 0, WATCH: 1})
    assert only["scores"] == only["expected"][WATCH] == sorted(by_item(answer).values(), reverse=True)


def test_vectors_of_a_request_reach_the_model(http: Any) -> None:
    """Of the context, the user and the items; a missing one is the mean, as one that is not given."""
    plain = by_item(answer_to(http))
    assert by_item(answer_to(http, context={QUERY: [-1, 0, 1]})) != plain
    assert by_item(answer_to(http, context={QUERY: None})) == by_item(answer_to(http, context={})) != plain
    changed = by_item(answer_to(http, overrides=OVERRIDES))
    assert all(changed[item] != plain[item] for item in ITEMS)
    of_user = by_item(answer_to(http, overrides={"user": OVERRIDES["user"]}))
    assert of_user[0] == pytest.approx(changed[0]), "the item 0 has no image, in the store and in the request"


def test_every_way_in_gives_the_same_document(http: Any, opened: Any) -> None:
    """POST /rank, /rank_batch, and the methods that BentoML's clients and dependent services call."""
    requests = [BODY, BODY | {"overrides": OVERRIDES, "k": 2}, BODY | {"user_id": 1000, "explain": True}]
    answers = [http.post("/rank", json=request).json() for request in requests]
    assert all(WATCH in answer["expected"] for answer in answers)
    assert http.post("/rank_batch", json=requests).json() == answers
    assert [asyncio.run(opened.rank.local(**request)) for request in requests] == answers
    assert asyncio.run(opened.rank_batch.local(requests)) == answers
    assert asyncio.run(opened.model.local()) == http.get("/model").json()


def test_an_explanation_names_the_watch_time(http: Any) -> None:
    """By group of features: what user, item and context contribute to the number, vectors among them."""
    contributions = answer_to(http, explain=True)["explanation"]["contributions"]
    assert {"user", "item", "context"} <= set(contributions)
    for values in contributions.values():
        assert list(values) == ["click", "order", WATCH]
    assert np.abs(contributions["context"][WATCH]).min() > 0


def test_a_vector_that_does_not_fit_is_refused(http: Any, opened: Any) -> None:
    """With its name and the length that is expected; a weight and a position are nobody's to give."""
    for given in ([1.0, 2.0], [1.0] * 4, [1.0, None, 2.0], "1,2,3"):
        problem = problem_of(http.post("/rank", json=BODY | {"context": {QUERY: given}}), 422)
        assert QUERY in json.dumps(problem["errors"])
        with pytest.raises(BentoMLException, match=QUERY):
            asyncio.run(opened.rank.local(**BODY | {"context": {QUERY: given}}))
    for name in ("counted", "rank", WATCH):
        assert name in json.dumps(problem_of(http.post("/rank", json=BODY | {"context": {name: 1}}), 422)["errors"])


def test_the_service_describes_numbers_and_vectors(http: Any) -> None:
    """GET /model, the OpenAPI page, and what BentoML's clients are made from."""
    model = http.get("/model").json()
    assert model["tasks"][WATCH] == [WATCH]
    assert QUERY in model["columns"]["context"]
    assert (TASTE in model["columns"]["user"], IMAGE in model["columns"]["item"]) == (True, True)
    pages = json.dumps(http.get("/docs.json").json())
    methods = service.RankingService.apis  # type: ignore[attr-defined]
    arguments = methods["rank"].input_spec
    for described in (pages, json.dumps(arguments.model_json_schema())):
        assert f'"maxItems": {LENGTH}' in described
        assert WATCH in described
    assert "expected" in json.dumps(RANKING.model_json_schema())
    assert json.loads(arguments.from_inputs(**BODY).model_dump_json()) == BODY


def test_scores_beyond_1_are_counted(http: Any) -> None:
    """In the histogram of the scores, which goes on beyond 1."""
    registry = service.api.metrics.registry
    before = registry.get_sample_value("hinet_score_sum", {"scenario": "search"})
    best = answer_to(http, k=1, objective={"click": 0, "order": 0, WATCH: 1})["scores"][0]
    assert best > 1
    assert registry.get_sample_value("hinet_score_sum", {"scenario": "search"}) - before == pytest.approx(best)


def test_the_impression_log_keeps_numbers_and_vectors(built: Path, tmp_path: Path) -> None:
    """The expected value of each candidate, and the vectors that the model read."""
    ranker, log = tiny_project.ranker(built, tmp_path / "r.db"), open_log(tmp_path / "log")
    ranker.observers = [log]
    accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(built), ranker.loaded.model.views)
    result = ranker.rank(accepted.model_validate(BODY))
    log.close()
    rows = {row["item_id"]: row for row in rows_in(tmp_path / "log")}
    expected = dict(zip(result.items, result.probabilities[WATCH].tolist(), strict=True))
    assert {item: row[f"score_{WATCH}"] for item, row in rows.items()} == expected
    assert all(row[QUERY] == VECTOR and len(row[TASTE]) == LENGTH for row in rows.values())
    assert [rows[item][IMAGE] is None for item in ITEMS] == [True] + [False] * 8


def test_a_shadow_model_is_compared_by_seconds_too(built: Path, tmp_path: Path) -> None:
    """Each answer goes through its JSON line with vectors; the log of both has the numbers of both."""
    ranker = tiny_project.ranker(built, tmp_path / "r.db")
    accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(built), ranker.loaded.model.views)
    request = accepted.model_validate(BODY | {"overrides": OVERRIDES, "k": 4})
    log = ImpressionLog(folder=tmp_path / "both", sample=1, rows_per_file=1000, seconds=60)
    result = ranker.rank(request)
    compared = worker_on(ranker, accepted, log).compare(encode_line(request, result))
    log.close()
    assert compared is not None
    assert compared.correlation == pytest.approx(1)
    rows = {row["item_id"]: row for row in rows_in(tmp_path / "both")}
    assert list(rows) == result.items
    for item, seconds in zip(result.items, result.probabilities[WATCH], strict=True):
        assert rows[item][f"score_{WATCH}"] == pytest.approx(seconds)
        assert rows[item][f"shadow_score_{WATCH}"] == pytest.approx(seconds, rel=1e-6)


def test_a_bento_needs_the_weight_of_the_number(built: Path, tmp_path: Path) -> None:
    """It has the parameters of the project: without a weight of the watch time no service would start with them."""
    stores = {"online": built / tiny_project.ONLINE, "store": tmp_path / "home"}
    with pytest.raises(ParameterError, match=f"serve.objective has no weight for {WATCH}"):
        package(model=built / tiny_project.MODEL, out=tmp_path / "bento", **stores)
    assert not (tmp_path / "bento").exists()


@pytest.mark.slow
def test_a_bento_is_packed_served_and_called(built: Path, tmp_path: Path) -> None:
    """`python -m serving.package`, `bentoml serve` and BentoML's client, as their user types them."""
    code = clone(tmp_path / "code")
    plain = read_yaml(code / "params.yaml")
    plain["serve"]["objective"] = watched_world.OBJECTIVE
    (code / "params.yaml").write_text(dump_yaml(plain), encoding="utf-8")
    command = [sys.executable, "-m", "serving.package", "--model", built / tiny_project.MODEL]
    command += ["--online", built / tiny_project.ONLINE, "--out", tmp_path / "bento", "--store", tmp_path / "home"]
    subprocess.run(command, cwd=code, env=environment(), check=True)
    with bentoml_serve([tmp_path / "bento"], tmp_path, tmp_path / "other") as http:
        wait_until_ready(http)
        expected = complete_answer(http, BODY).json()
        with bentoml.SyncHTTPClient(str(http.base_url).rstrip("/")) as hinet:
            assert hinet.rank(**BODY) == expected
            assert hinet.rank_batch([BODY, BODY | {"overrides": OVERRIDES, "explain": True}])[0] == expected
            with pytest.raises(BentoMLException, match=QUERY):
                hinet.rank(**BODY | {"context": {QUERY: [1.0]}})
    assert max(expected["expected"][WATCH]) > 1
