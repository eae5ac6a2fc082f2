"""A calibrated model over HTTP, in a release and in a drift report: everywhere the same probabilities."""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit

from common import params
from features.encoding.tensors import open_tensors
from features.store.definitions import open_store
from features.store.offline_store import newest_timestamp
from models.evaluation.predict import predict, predict_calibrated
from models.model_folder import CALIBRATION, Model, read_model
from monitoring.detection import drift_report
from release.candidate import Candidate
from release.comparison import compare
from release.parity import check_bento, compare_probabilities, predict_offline, sample_events
from serving.ranking.request import request_type
from serving.ranking.scorer import CACHED, FULL, SPLIT, Scorer
from tests.support import tiny_project
from tests.support.calibrated import ISOTONIC, PLATT, calibrated_copy

pytestmark = pytest.mark.integration
ROWS = 20


@pytest.fixture(scope="module", params=[PLATT, ISOTONIC], ids=["platt", "isotonic"])
def calibrated(request: Any, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with a calibrated model."""
    root = tmp_path_factory.mktemp("calibrated") / "project"
    shutil.copytree(project, root)
    calibrated_copy(root / tiny_project.MODEL, root / tiny_project.MODEL, request.param)
    return root


@pytest.fixture(scope="module")
def client(calibrated: Path) -> Iterator[Any]:
    """A client of the service on it."""
    with tiny_project.open_client(calibrated) as opened:
        yield opened


@pytest.fixture(scope="module")
def impressions(calibrated: Path) -> pa.Table:
    """Impressions of the test rows with the timestamp of the store."""
    model, test = read_model(calibrated / tiny_project.MODEL), calibrated / "data/training/test.parquet"
    return sample_events(model.schema, test, ROWS, as_of(calibrated, model))


def as_of(root: Path, model: Model) -> datetime:
    """The timestamp up to which the store is materialized."""
    return newest_timestamp(model.views, root / "data/features")


def offline(root: Path, model: Model, impressions: pa.Table, scratch: Path) -> np.ndarray:
    """Probabilities [N, O] as `evaluate` computes them."""
    features = root / "data/features"
    store = open_store(
        model.schema, model.views, features=features, online=scratch / "none.db", registry=scratch / "registry.db"
    )
    return predict_offline(store, model, impressions, scratch / "joined.parquet")


def over_http(client: Any, model: Model, impressions: pa.Table) -> np.ndarray:
    """Probabilities [N, O] of a request each."""
    names, values = {"user_id": model.schema.user, "scenario": model.schema.scenario}, []
    for event in impressions.to_pylist():
        context = {column.name: event[column.name] for column in model.schema.context}
        body = {field: event[name] for field, name in names.items()}
        answer = client.post(
            "/rank", json={**body, "candidates": [event[model.schema.item]], "context": context}
        ).json()
        values.append([answer["probabilities"][name][0] for name in model.schema.output_names])
    return np.array(values)


def test_probabilities_over_http_are_those_of_evaluate(
    calibrated: Path, project: Path, client: Any, impressions: pa.Table, tmp_path: Path
) -> None:
    """Equal to 1e-6, by the parity check of a release, and others than without the calibration."""
    model, plain = read_model(calibrated / tiny_project.MODEL), read_model(project / tiny_project.MODEL)
    expected, served = offline(calibrated, model, impressions, tmp_path), over_http(client, model, impressions)
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6)
    assert compare_probabilities(expected, served, model).passed
    uncalibrated = offline(project, plain, impressions, tmp_path)
    assert np.abs(uncalibrated - expected).max() > 0.1
    assert not compare_probabilities(uncalibrated, served, model).passed


def test_the_model_says_its_calibration(calibrated: Path, project: Path, client: Any) -> None:
    """GET /model has it by cell, and a tag of its own."""
    answer, plain = client.get("/model").json(), read_model(project / tiny_project.MODEL)
    model = read_model(calibrated / tiny_project.MODEL)
    assert model.calibration is not None
    assert answer["calibration"] == model.calibration.by_cell
    assert answer["calibration"]["feed/click"] == model.calibration.document["kind"]
    assert answer["tag"] == model.tag != plain.tag
    assert model.weights_sha256 == plain.weights_sha256


def test_an_explanation_is_of_the_logits_of_the_network(calibrated: Path, project: Path, tmp_path: Path) -> None:
    """A calibration is no feature: the contributions are those without it, the probabilities are not."""
    contributions, clicks = [], []
    for root in (calibrated, project):
        ranker = tiny_project.ranker(root, tmp_path / f"{len(clicks)}.db")
        accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(root), ranker.loaded.model.views)
        result = ranker.rank(accepted(user_id=1, scenario="feed", candidates=list(range(9)), explain=True))
        assert result.explanation is not None
        order = np.argsort(result.items)
        contributions.append(result.explanation.contributions["user"]["click"][order])
        clicks.append(result.probabilities["click"][order])
    np.testing.assert_allclose(*contributions, atol=1e-5)
    assert np.abs(clicks[0] - clicks[1]).max() > 0.01


@pytest.mark.parametrize("mode", [CACHED, SPLIT, FULL])
def test_every_mode_of_the_scorer_is_calibrated(calibrated: Path, tmp_path: Path, mode: str) -> None:
    """In each scenario the map of that scenario, of the logits of this mode."""
    loaded = tiny_project.ranker(calibrated, tmp_path / "registry.db").loaded
    scorer = Scorer(loaded.model, loaded.catalogue, megabytes=512 if mode == CACHED else 0)
    scorer.fused = None if mode == FULL else scorer.fused
    assert scorer.mode == mode
    assert loaded.model.calibration is not None
    for scenario in range(3):
        user = loaded.encoder.encode({"user_id": 1}, scenario)
        logits = scorer.logits(user, np.arange(9)).numpy()
        expected = expit(loaded.model.calibration.of_scenario(logits, scenario))
        np.testing.assert_allclose(scorer.score(user, np.arange(9)), expected, rtol=1e-12)


def test_the_promotion_policy_compares_calibrated_probabilities(calibrated: Path, project: Path) -> None:
    """Of the same weights: the AUC of each cell is the same, so that none has to be gained; predicted over observed."""
    model, plain = read_model(calibrated / tiny_project.MODEL), read_model(project / tiny_project.MODEL)
    rows = project / "data/training/train.parquet"
    metrics, before = compare(model, plain, rows, 0.95), compare(plain, None, rows, 0.95)
    assert metrics.same
    assert model.tag != plain.tag
    assert all(cell.challenger == pytest.approx(cell.champion, abs=1e-9) for cell in metrics.cells)
    ratios = metrics.calibration["feed/click"].value, before.calibration["feed/click"].value
    assert ratios[0] != pytest.approx(ratios[1], rel=0.05)
    assert metrics.calibration["channel/click"] == before.calibration["channel/click"]


def test_a_bento_with_another_calibration_is_not_released(calibrated: Path, tmp_path: Path) -> None:
    """The file is compared byte for byte, as the others are."""
    model = calibrated / tiny_project.MODEL
    unused = dict.fromkeys(("online", "encoder", "features", "training", "tensors"), tmp_path)
    candidate = Candidate(model=model, bento=tmp_path / "bento", **unused)
    shutil.copytree(model, candidate.bento_model)
    assert check_bento(candidate).passed
    (candidate.bento_model / CALIBRATION).write_text("{}")
    assert "other files calibration.json" in check_bento(candidate).sentence


def test_a_drift_report_scores_the_window_by_the_calibrated_model(calibrated: Path) -> None:
    """The mean prediction of every cell is that of the calibrated probabilities."""
    model, test = read_model(calibrated / tiny_project.MODEL), open_tensors(calibrated / "data/tensors/test")
    rows, limits = calibrated / "data/training/test.parquet", params.load(calibrated / "params.yaml").drift
    report = drift_report.compare(rows, model, calibrated / tiny_project.MODEL, limits)
    expected, before = (expit(logits) for logits in (predict_calibrated(model, test), predict(model.network, test, "")))
    for entry in report["scores"]:
        column, code = model.schema.task_names.index(entry["task"]), model.schema.scenarios.index(entry["scenario"])
        own = (test.scenario == code) & ~np.isnan(test.labels[:, column])
        assert entry["mean_predicted"] == pytest.approx(expected[own, column].mean(), abs=1e-6)
    feed = test.scenario == 0
    assert expected[feed, 0].mean() != pytest.approx(before[feed, 0].mean(), abs=0.01)
