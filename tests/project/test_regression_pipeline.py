"""A declared log with a watch time to predict and weights of impressions, through every stage to service and drift."""

import contextlib
import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from benchmarks.serving.variants import perturbed_model
from common import params
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.refresh import refresh
from features.schema import read_schema, read_views
from models.model_folder import read_model
from monitoring.drift import drift
from release.comparison import compare, score
from release.parity import compare_probabilities, serve
from release.replay import replay
from release.served_day import METRICS, SERVED
from serving.http.response import ranking_json
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project, watch_log
from tests.support.stages import no_data_docs

pytestmark = pytest.mark.integration
WATCH = "watch_seconds"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage but `package` on 3,000 impressions, without Data Docs."""
    with no_data_docs():
        return watch_log.build(tmp_path_factory.mktemp("videos"), watch_log.events())


def report_of(folder: Path, name: str) -> dict[str, Any]:
    """A JSON document of the project."""
    document: dict[str, Any] = json.loads((folder / name).read_text())
    return document


def test_every_quality_gate_is_open(built: Path) -> None:
    """Log, training set, tensors and online store pass, without a row in quarantine."""
    for name in ("validation", "training", "tensors", "online"):
        report = report_of(built, f"{name}.json")
        assert report["passed"]
    assert not len(pq.read_table(built / "data/quarantine/events.parquet"))


def test_labels_and_weights_are_those_of_the_log(built: Path) -> None:
    """In seconds as float32, NaN where not observed; the weight is a column of its own, and no input."""
    rows, tensors = pq.read_table(built / "data/training/test.parquet"), open_tensors(built / "data/tensors/test")
    expected = rows[WATCH].to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(tensors.labels[:, 1], expected)
    assert np.isnan(expected).any()
    assert tensors.weight is not None
    np.testing.assert_array_equal(tensors.weight, np.where(np.array(rows["device"].to_pylist()) == "ios", 3, 1))
    encoder = Encoder.read(built / "artifacts/encoder.parquet")
    assert not {"counted", WATCH} & {column.name for column in encoder.columns}
    train = pq.read_table(built / "data/training/train.parquet")[WATCH].drop_null().to_numpy().astype(float)
    assert encoder.targets[WATCH] == pytest.approx((train.mean(), train.std(), 0))


def test_statistics_of_a_number_are_means_of_the_past(built: Path) -> None:
    """Users, items and users in a scenario have the mean watch time beside the rate of clicks."""
    names = {column.name for view in read_views(built / "data/features/views.json") for column in view.columns}
    assert {"user_watch_seconds_mean_7d", "item_watch_seconds_mean_all", "item_click_rate_all"} <= names
    assert not any("counted" in name or "watch_seconds_rate" in name for name in names)
    items = pq.read_table(built / "data/features/item.parquet").to_pandas().groupby("video").last()
    means = items["item_watch_seconds_mean_all"].groupby(items.index % 2).mean()
    assert means.tolist() == pytest.approx([watch_log.SHORT, watch_log.LONG], rel=0.25)  # smoothed towards 12.5


def test_the_model_has_learned_the_expected_watch_time(built: Path) -> None:
    """Ordered far better than by chance, calibrated, and with an error below that of the mean; all in seconds.

    The best possible R2 is about 0.48, the best XAUC 0.74: half of the pairs are of videos that are alike. The errors
    are scikit-learn's on the exported predictions.
    """
    report, schema = report_of(built, "metrics.json")["hinet_plus"], read_schema(built / "data/schema.json")
    cells = {(cell["scenario"], cell["task"]): cell for cell in report["cells"]}
    predictions = pq.read_table(built / "predictions/hinet_plus.parquet").to_pandas()
    scale = Encoder.read(built / "artifacts/encoder.parquet").targets[WATCH]
    for scenario in schema.scenarios:
        cell = cells[scenario, WATCH]
        assert cell["metric"] == "xauc"
        assert 0.6 < cell["xauc_low"] < cell["xauc"] < cell["xauc_high"]
        assert cell["xauc"] > 0.68
        assert cell["r2"] > 0.3
        assert 0.8 < cell["calibration"] < 1.25
        rows = predictions[(predictions["scenario"] == scenario) & predictions[WATCH].notna()]
        expected = scale.expected(rows[f"logit_{WATCH}"].to_numpy())
        assert expected.min() > 0
        assert cell["mae"] == pytest.approx(mean_absolute_error(rows[WATCH], expected), rel=1e-4)
        assert cell["r2"] == pytest.approx(r2_score(rows[WATCH], expected), abs=1e-4)
        assert {"weighted_xauc", "weighted_calibration", "weight", "rmse", "spearman", "mean"} <= set(cell)
    assert report["mean"] == pytest.approx(np.mean([cell.get("xauc", cell.get("auc")) for cell in report["cells"]]))
    assert report["weighted_mean"] == pytest.approx(report["mean"], abs=0.05)


def test_plots_and_curves_have_the_number(built: Path) -> None:
    """XAUC stands on the scale of the AUC; the reliability diagram stays one of probabilities."""
    rows = {name: report_of(built / "plots", f"{name}.json") for name in ("auc", "cells", "reliability")}
    assert {row["task"] for row in rows["auc"]} == {row["task"] for row in rows["cells"]} == {"click", WATCH}
    assert {row["task"] for row in rows["reliability"]} == {"click"}


def answer(built: Path, registry: Path, **body: Any) -> dict[str, Any]:
    """The answer of POST /rank in this process, from JSON to JSON."""
    settings = params.load(built / "params.yaml").serve
    schema = read_schema(built / "data/schema.json")
    accepted = request_type(schema, settings, read_views(built / "data/features/views.json"))
    ranker = tiny_project.ranker(built, registry)
    result: RankingResult = ranker.rank(accepted.model_validate({"user_id": 3, "scenario": "home", **body}))
    document: dict[str, Any] = json.loads(ranking_json(result))
    return document


def test_the_service_answers_with_seconds(built: Path, tmp_path: Path) -> None:
    """`expected` has the watch time, `probabilities` the click; both are in the score; odd videos come first."""
    given = answer(built, tmp_path / "r.db", candidates=list(range(1, 21)), explain=True)
    assert list(given["probabilities"]) == ["click"]
    assert list(given["expected"]) == [WATCH]
    watch, click = np.array(given["expected"][WATCH]), np.array(given["probabilities"]["click"])
    np.testing.assert_allclose(given["scores"], click + 0.05 * watch)
    odd = np.array(given["item_ids"]) % 2 == 1
    assert odd[:10].all()
    assert watch[odd].mean() == pytest.approx(watch_log.LONG, rel=0.35)
    assert watch[~odd].mean() == pytest.approx(watch_log.SHORT, rel=0.6)
    assert WATCH in given["explanation"]["contributions"]["item"]
    only = answer(built, tmp_path / "s.db", candidates=[1, 2, 3], objective={"click": 0, WATCH: 1})
    assert only["scores"] == only["expected"][WATCH]


def test_a_request_has_no_weight_and_no_label(built: Path) -> None:
    """The context of a request is the device alone."""
    schema = read_schema(built / "data/schema.json")
    accepted = request_type(schema, params.load(built / "params.yaml").serve)
    fields = accepted.model_json_schema()["$defs"]
    assert list(fields["Context"]["properties"]) == ["device"]


def test_without_the_model_the_answer_is_the_mean_of_the_past(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Degraded: mean watch time of the scenario times the lift of the item, in seconds, not clipped to 1."""
    ranker = tiny_project.ranker(built, tmp_path / "r.db")
    monkeypatch.setattr(ranker.loaded.scorer, "logits", lambda *_: 1 / 0)
    accepted = request_type(ranker.loaded.schema, params.load(built / "params.yaml").serve)
    result = ranker.rank(accepted.model_validate({"user_id": 3, "scenario": "home", "candidates": [1, 2, 3]}))
    assert "ZeroDivisionError" in (result.degraded or "")
    by_item = dict(zip(result.items, result.probabilities[WATCH], strict=True))
    assert by_item == pytest.approx({1: watch_log.LONG, 2: watch_log.SHORT, 3: watch_log.LONG}, rel=0.4)


def test_served_values_are_those_of_the_model(built: Path, tmp_path: Path) -> None:
    """The fused path of the service gives what the forward of the network does, seconds and probabilities alike."""
    model, ranker = read_model(built / tiny_project.MODEL), tiny_project.ranker(built, tmp_path / "r.db")
    accepted = request_type(model.schema, params.load(built / "params.yaml").serve, model.views)
    rows = pq.read_table(built / "data/training/test.parquet").slice(0, 20)
    online = serve(ranker, rows, accepted)
    assert online.shape == (20, 2)
    assert online[:, 1].max() > 1
    rule = compare_probabilities(online, online, model)
    assert rule.passed
    moved = online + np.array([0, 0.1])
    assert not compare_probabilities(online, moved, model).passed
    assert ranker.loaded.scorer.mode == "cached"


def test_the_promotion_policy_compares_numbers_and_weights(built: Path) -> None:
    """Against chance: every cell has a metric, and predicted over observed seconds has an interval around 1."""
    model = read_model(built / tiny_project.MODEL)
    metrics = compare(model, None, built / "data/training/test.parquet", 0.95)
    assert metrics.chance == 0.5
    assert metrics.gain.low > 0.1
    ratio = metrics.calibration[f"home/{WATCH}"]
    assert ratio.low < ratio.value < ratio.high
    assert 0.7 < ratio.value < 1.4
    logits = score(model, built / "data/training/test.parquet")
    assert logits.shape[1] == 2


def test_a_day_is_replayed_in_seconds(built: Path, tmp_path: Path) -> None:
    """The scored rows of the last day have the expected values; those of a ranker on the store are the same.

    They are compared with those of a model with noise on its weights by XAUC.
    """
    perturbed_model(built / tiny_project.MODEL, tmp_path / "noisy")
    stores = {
        "schema": Path("data/schema.json"),
        "features": Path("data/features"),
        "online": tmp_path / "online.db",
        "as_of": datetime(2026, 1, 12, 1),
    }
    with contextlib.chdir(built):
        refresh(**stores, out=tmp_path / "refreshed", champion=tmp_path / "none")
        replay(
            **stores,
            day=date(2026, 1, 12),
            events=Path("data/validated/events"),
            model=tiny_project.MODEL,
            frozen=tmp_path / "noisy",
            out=tmp_path / "out",
        )
    served, metrics = pq.read_table(tmp_path / "out" / SERVED).to_pandas(), report_of(tmp_path, f"out/{METRICS}")
    odd = served.groupby(served["video"] % 2)[f"score_{WATCH}"].mean()
    assert odd.tolist() == pytest.approx([watch_log.SHORT, watch_log.LONG], rel=0.35)
    assert metrics["checked"] > 0
    for scenario in ("home", "search"):
        cell = metrics["cells"][f"{scenario}/{WATCH}"]
        assert 0.6 < cell["model"] < 1
        assert cell["model"] != cell["frozen"]
        assert cell["gain"]["value"] == pytest.approx(cell["model"] - cell["frozen"])


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "ok"), (3.0, "act")])
def test_drift_of_a_number_is_reported(built: Path, tmp_path: Path, factor: float, verdict: str) -> None:
    """Threefold watch times are found in mean, distribution and calibration, in seconds; the same ones are not."""
    window = pq.read_table(built / "data/training/test.parquet").to_pandas()
    window[WATCH] = (window[WATCH] * factor).astype("float32")
    window.to_parquet(tmp_path / "window.parquet", coerce_timestamps="us", allow_truncated_timestamps=True)
    with contextlib.chdir(built):
        drift(current=tmp_path / "window.parquet", reference=tiny_project.MODEL, out=tmp_path / "out", report_only=True)
    report = report_of(tmp_path, "out/drift.json")
    kinds = {finding["kind"] for finding in report["findings"] if finding["task"] == WATCH}
    labels = {(entry["scenario"], entry["task"]): entry for entry in report["labels"]}
    assert labels["home", WATCH]["rate"] == pytest.approx(12.5 * factor, rel=0.2)
    assert (kinds >= {"label_rate", "label_shift", "calibration"}) == (verdict == "act"), report["findings"]
    sentences = " ".join(finding["sentence"] for finding in report["findings"])
    assert ("the mean of watch_seconds in" in sentences) == (verdict == "act")
    assert (tmp_path / "out/index.html").exists()
