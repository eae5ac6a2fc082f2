"""Served scores equal evaluated scores: thousands of impressions through a real server, for both online stores."""

import http.client
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.serving.servers import OURS, serve
from benchmarks.serving.stores import REDIS, SQLITE, online_store
from features.store.definitions import open_store
from features.store.offline_store import newest_timestamp
from models.model_folder import Model, read_model
from release.parity import predict_offline, sample_events
from tests.support import tiny_project

ROWS = 10_000
ATTEMPTS = 50  # of a request with a degraded answer: a busy machine may read its store too late
pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with that many impressions."""
    return tiny_project.build(tmp_path_factory.mktemp("many"), rows=12_000)


@pytest.fixture(scope="module")
def impressions(project: Path) -> pa.Table:
    """Logged impressions with the timestamp of the store."""
    model, rows = read_model(project / tiny_project.MODEL), project / "every.parquet"
    parts = [pq.read_table(project / f"data/training/{part}.parquet") for part in ("train", "valid", "test")]
    pq.write_table(pa.concat_tables(parts), rows)
    return sample_events(model.schema, rows, ROWS, timestamp_of_store(project, model))


def timestamp_of_store(project: Path, model: Model) -> datetime:
    """The timestamp up to which the store is materialized."""
    return newest_timestamp(model.views, project / "data/features")


@pytest.fixture(scope="module")
def evaluated(project: Path, impressions: pa.Table) -> np.ndarray:
    """Probabilities [N, O] as `evaluate` computes them: point-in-time join, encoder, network, batch by batch."""
    model, registry = read_model(project / tiny_project.MODEL), project / "evaluated.db"
    store = open_store(
        model.schema, model.views, features=project / "data/features", online=project / "none.db", registry=registry
    )
    return predict_offline(store, model, impressions, project / "joined.parquet")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [SQLITE, REDIS])
def test_scores_over_http_equal_those_of_evaluate(
    project: Path, impressions: pa.Table, evaluated: np.ndarray, kind: str
) -> None:
    """Each probability of 10,000 impressions is equal to 1e-6."""
    model = read_model(project / tiny_project.MODEL)
    sources = {
        "HINET_MODEL": str(project / tiny_project.MODEL),
        "HINET_ONLINE_STORE": str(project / tiny_project.ONLINE),
    }
    with (
        online_store(kind, model, project / "data/features") as environment,
        serve(OURS, environment=sources | environment) as server,
    ):
        served = np.array(list(answers(server.url, model, impressions)))
    assert len(served) == ROWS
    np.testing.assert_allclose(served, evaluated, rtol=0, atol=1e-6)
    assert np.ptp(served) > 0.5, "a network with constant answers would prove nothing"


def answers(url: str, model: Model, impressions: pa.Table) -> Iterator[list[float]]:
    """The probabilities [O] of each impression, by one request each."""
    schema, connection = model.schema, http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    context = [column.name for column in schema.context]
    for event in impressions.to_pylist():
        body = {
            "user_id": event[schema.user],
            "scenario": event[schema.scenario],
            "candidates": [event[schema.item]],
            "context": {name: event[name] for name in context},
        }
        answer = complete_answer(connection, json.dumps(body))
        yield [answer["probabilities"][name][0] for name in schema.output_names]
    connection.close()


def complete_answer(connection: http.client.HTTPConnection, body: str) -> dict:
    """The answer to a request, which is sent again while the answer is degraded."""
    for _ in range(ATTEMPTS):
        connection.request("POST", "/rank", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        answer: dict = json.loads(text)
        if not answer.get("degraded"):
            return answer
    raise AssertionError(f"{ATTEMPTS} times in a row: {answer['degraded']}")
