"""A log with vectors and positions, declared in YAML, on its whole way: from raw files to the drift report."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.quality.online_store import check_online, check_snapshot
from features.quality.tensors import check_tensors
from features.schema import Schema, read_schema, read_views
from features.store.definitions import open_store
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from models.model_folder import read_model
from monitoring.detection.drift_report import report_on
from release import parity
from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest, request_type
from serving.ranking.request_values import text_limit
from serving.ranking.scorer import CACHED
from tests.support import tiny_project, vector_log
from tests.support.stages import no_data_docs
from tests.support.tiny_project import MODEL, ONLINE

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage on 3,000 impressions, without Data Docs."""
    with no_data_docs():
        return vector_log.build(tmp_path_factory.mktemp("pictures") / "root")


@pytest.fixture(scope="module")
def ranker(built: Path) -> Ranker:
    """The ranker of the service on the trained model and its stores."""
    return tiny_project.ranker(built, built / "registry.db", objective={"click": 1.0})


def schema_of(built: Path) -> Schema:
    """The schema that ingest wrote."""
    return read_schema(built / "data" / "schema.json")


def accepted(built: Path, ranker: Ranker) -> type[RankRequest]:
    """The type of its requests."""
    settings = tiny_project.with_read_timeout(built, objective={"click": 1.0})
    text = text_limit(ranker.loaded.model.encoder.vocabularies.values())
    return request_type(ranker.loaded.schema, settings, ranker.loaded.model.views, text=text)


def test_a_broken_vector_is_in_quarantine_with_its_rule(built: Path) -> None:
    """One of another length, and one with a number that is NaN; a missing one of a nullable column is accepted."""
    rejected = pq.read_table(built / "data" / "quarantine" / "items.parquet").to_pylist()
    assert {row["picture"]: row["reasons"] for row in rejected} == {
        int(vector_log.IDS[-1]): ["image of another length"],
        int(vector_log.IDS[-2]): ["image with a number that is not finite"],
    }
    report = json.loads((built / "validation.json").read_text())["tables"]["items"]
    shown = {fault["rule"]: fault["examples"][0] for fault in report["failed"]}
    assert shown["image of another length"] == {"picture": int(vector_log.IDS[-1]), "numbers of image": 2}


def test_vectors_are_numbers_of_the_tensors_and_pass_their_gate(built: Path) -> None:
    """The last numbers of a row: those of the impression, the user, the item, each with its flag where nullable."""
    encoder, settings = (
        Encoder.read(built / "artifacts" / "encoder.parquet"),
        params.load(built / "params.yaml").inspect,
    )
    training, tensors = built / "data" / "training", built / "data" / "tensors"
    assert encoder.layout.vectors == (3, 4, 4)  # a profile is nullable, since a user may not be known yet
    suites = check_tensors(schema_of(built), encoder, settings, training=training, tensors=tensors)
    assert not [fault.rule.name for suite in suites for fault in suite.faults]
    numeric, rows = open_tensors(tensors / "train").numeric, pq.read_table(training / "train.parquet")
    queries = np.array([query or [np.nan] * 2 for query in rows["query"].to_pylist()])
    first = numeric[:, -11:-8]
    expected = np.nan_to_num((queries - np.nanmean(queries, axis=0)) / np.nanstd(queries, axis=0))
    np.testing.assert_allclose(first[:, :2], expected, atol=1e-5)
    np.testing.assert_array_equal(first[:, 2], np.isnan(queries[:, 0]))


def test_the_position_is_an_array_of_its_own_and_no_input(built: Path) -> None:
    """The tensors hold it as the log has it; neither encoder, views nor network know it."""
    training, tensors = built / "data" / "training", built / "data" / "tensors"
    rows = pq.read_table(training / "test.parquet")
    assert open_tensors(tensors / "test").position.tolist() == rows["rank"].to_pylist()
    assert "rank" not in {column.name for column in Encoder.read(built / "artifacts" / "encoder.parquet").columns}


def test_the_stores_hold_the_vectors_of_the_log(built: Path) -> None:
    """Every value of the online store and of the item snapshot is the newest one of the offline store."""
    schema, features = schema_of(built), built / "data" / "features"
    views = read_views(features / "views.json")
    store = open_store(
        schema, views, features=features, online=built / ONLINE, registry=built / "checked.db", reads=True
    )
    items = read_snapshot(item_snapshot_path(built / ONLINE), schema, views).rows
    suites = [*check_online(store, schema, views, features, 50), check_snapshot(items, schema, views, features, 50)]
    assert not [fault.rule.name for suite in suites for fault in suite.faults]
    images = dict(zip(items["picture"].to_pylist(), items["image"].to_pylist(), strict=True))
    log = vector_log.frames()["items"].to_pylist()
    assert images == {row["picture"]: row["image"] for row in log[: -len(vector_log.BROKEN)]}


def test_the_network_learns_from_them(built: Path) -> None:
    """Clicks are where image and taste agree: far better than chance, and the image matters."""
    report = json.loads((built / "metrics.json").read_text())["hinet_plus"]
    assert report["mean_auc"] > 0.7
    importance = json.loads((built / MODEL / "behaviour.json").read_text())["importance"]
    assert {"query", "taste", "image"} <= set(importance)
    assert importance["image"] > 0.01


def test_the_service_answers_with_the_predictions_of_evaluate(built: Path, ranker: Ranker) -> None:
    """The fused inference path with cached activations of the items gives the logits of `evaluate`."""
    assert ranker.loaded.scorer.mode == CACHED
    model = ranker.loaded.model
    events = parity.sample_events(
        model.schema, built / "data" / "training" / "test.parquet", 40, ranker.loaded.catalogue.as_of
    )
    features = built / "data" / "features"
    store = open_store(
        model.schema, model.views, features=features, online=built / "x.db", registry=built / "offline.db"
    )
    offline = parity.predict_offline(store, model, events, built / "joined.parquet")
    online = parity.serve(ranker, events, accepted(built, ranker))
    rule = parity.compare_probabilities(offline, online, model)
    assert rule.passed, rule.sentence


def test_a_request_overrides_vectors_and_is_bounded(built: Path, ranker: Ranker) -> None:
    """Another taste, another image, another query; a vector has exactly its length, and cannot be filtered by."""
    request = accepted(built, ranker)
    items = vector_log.IDS[1:4].tolist()
    body = {"user_id": vector_log.users()[5], "scenario": "home", "candidates": items, "explain": True}
    plain = ranker.rank(request.model_validate(body))
    overrides = {"user": {"taste": [1.0, 2.0, 3.0]}, "items": {"image": [[1.0, 2.0, 3.0], None, [-1.0, -2.0, -3.0]]}}
    other = ranker.rank(request.model_validate(body | {"overrides": overrides, "context": {"query": [0.5, 0.5]}}))
    assert plain.explanation is not None
    assert {"user", "item", "context"} <= set(plain.explanation.contributions)
    assert other.items == items
    assert not plain.unknown_user
    for wrong in (
        {"overrides": {"user": {"taste": [1.0, 2.0]}}},
        {"overrides": {"user": {"taste": [1.0, 2.0, float("nan")]}}},
        {"overrides": {"user": {"taste": [1.0, 2.0, 1e39]}}},
        {"overrides": {"user": {"taste": [1.0, 2.0, "3"]}}},
        {"context": {"query": [0.5] * 3}},
        {"filters": {"image": [1.0, 2.0, 3.0]}},
        {"context": {"rank": 1}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            request.model_validate(body | wrong)


def test_ids_of_any_length_and_of_all_of_int64_are_ranked(built: Path, ranker: Ranker) -> None:
    """Texts of 1 to 100,000 characters and the limits of int64 are known; what no column can hold is refused."""
    request, items = accepted(built, ranker), vector_log.IDS[:-2].tolist()
    assert items[:3] == [0, 2**63 - 1, -(2**63)]
    for user in (*vector_log.users()[:3], vector_log.users()[-1]):
        answer = ranker.rank(request.model_validate({"user_id": user, "scenario": "home", "candidates": items}))
        assert (answer.unknown_user, answer.unknown_items, answer.degraded) == (False, [], None)
        assert sorted(answer.items) == sorted(items)
        assert ranker.loaded.users.row({"uid": user, "page": "home"})[0].values["taste"]
    body = {"user_id": vector_log.users()[0], "scenario": "home", "candidates": items}
    for wrong, sentence in (
        ({"user_id": "a" * (vector_log.LONGEST + 1)}, "should have at most 100000 characters"),
        ({"candidates": [2**63]}, "less than or equal to 9223372036854775807"),
        ({"candidates": [-(2**63) - 1]}, "greater than or equal to -9223372036854775808"),
        ({"user_id": 7}, "should be a valid string"),
    ):
        with pytest.raises(ValueError, match=sentence):
            request.model_validate(body | wrong)


def test_another_embedding_and_other_positions_are_drift(built: Path) -> None:
    """Images of another model, of the same norms: the cosine with the images of training is a finding, no norm is.

    So is another mix of positions. Unknown ones are none: a scored impression has no position before its event.
    """
    rows = pq.read_table(built / "data" / "training" / "test.parquet")
    images = [image and [-number for number in image] for image in rows["image"].to_pylist()]
    ranks = rows["rank"].to_pylist()
    known = [None if index % 3 else rank for index, rank in enumerate(ranks)]
    windows = {
        "changed": _with(_with(rows, "image", images), "rank", [rank // 4 for rank in ranks]),
        "partly known": _with(rows, "rank", known),
        "unknown": _with(rows, "rank", [None] * len(rows)),
    }
    with contextlib.chdir(built):
        findings = []
        for name, table in windows.items():
            pq.write_table(table, f"{name}.parquet")
            document = report_on(Path(f"{name}.parquet"), read_model(MODEL), MODEL, params.load().drift)
            findings.append({finding["column"] for finding in document["findings"] if finding["verdict"] == "act"})
    changed, partly, unknown = findings
    assert {"image: cosine", "rank"} <= changed - partly - unknown
    assert "image: norm" not in changed


def _with(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """The rows with other values in a column."""
    index = rows.column_names.index(name)
    return rows.set_column(index, name, pa.array(values, rows.schema.field(index).type))
