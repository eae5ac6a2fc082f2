"""models/evaluate.py and models/evaluation/predict.py: the same rows for every model, and every figure where it belongs."""

import contextlib
import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from dvc.api import metrics_show
from sklearn.metrics import roc_auc_score

from common.errors import JoinError, ModelError
from common.params import Evaluate
from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors
from features.schema import View, inputs, to_json
from models import evaluate
from models.evaluation import predict
from models.model_folder import read_model, write_model
from models.networks.hinet import HiNet
from models.peers.baselines import SharedBottom
from models.training import batches
from tests.support import world

SCHEMA = world.schema()
SETTINGS = Evaluate(bins=5, confidence=0.95)
VIEWS = (View(name="item", keys=("item_id",), columns=SCHEMA.profile("items")),)
ENCODER = Encoder(
    "scenario",
    SCHEMA.scenarios,
    inputs(SCHEMA, VIEWS),
    tables={name: list(range(4)) for name in ("user_id", "item_id", "scenario", "hour", "tags")},
    scales={"price": (0.0, 1.0)},
)
SHAPE = dataclasses.asdict(ENCODER.layout)
SEEN = ("categorical", "bags", "numeric", "scenario")
UNITS = {
    "embedding_width": 4,
    "sub_experts": 2,
    "expert_units": (8, 4),
    "task_experts": 2,
    "shared_experts": 1,
    "task_expert_units": (4,),
    "tower_units": (4,),
    "scenario_width": 3,
    "scenario_heads": False,
}


def hinet(*, seed=0):
    """A small HiNet for the rows of `rows()`."""
    torch.manual_seed(seed)
    return HiNet(**SHAPE, **UNITS, tasks=2).eval()


def rows(*, count=600, seed=0):
    """Encoded rows in three scenarios, and the true probabilities of their labels [N, 2]."""
    random = np.random.default_rng(seed)
    truth = np.cumprod(random.uniform(0.05, 0.9, (count, 2)), axis=1)
    labels = (random.random((count, 1)) < truth).astype(np.float32)
    encoded = Tensors(
        categorical=random.integers(0, 5, (count, 4), dtype=np.int32),
        bags=random.integers(-1, 5, (count, 3), dtype=np.int32),
        numeric=random.normal(size=(count, 2)).astype(np.float32),
        scenario=random.integers(0, 3, count, dtype=np.int32),
        labels=labels,
        event_id=1000 + np.arange(count),
        user=random.integers(0, 40, count),
    )
    return encoded, truth


def test_predictions_do_not_depend_on_the_batches(monkeypatch):
    """Seven rows at a time, or all at once: the same logits, up to rounding."""
    test, _ = rows(count=50)
    expected = hinet()(*(torch.from_numpy(getattr(test, name)) for name in SEEN)).detach()
    monkeypatch.setattr(batches, "SCORE_ROWS", 7)
    np.testing.assert_allclose(predict.predict(hinet(), test, "hinet"), expected, atol=1e-6)


def test_a_prediction_that_is_no_number_stops_the_stage():
    """The message names the model and counts the rows."""
    network = hinet()
    network.towers.logits.bias.data.fill_(np.nan)
    with pytest.raises(ModelError, match="model hinet: 600 of 600 rows have a logit that is not finite"):
        predict.predict(network, rows()[0], "hinet")


def test_mean_gates_are_the_means_of_the_rows_of_each_scenario(monkeypatch):
    """Against a mean over the rows of each scenario, for every gate; no rows give NaN."""
    test, _ = rows(count=80)
    test.scenario[test.scenario == 2] = 0
    whole = hinet().gates(*(torch.from_numpy(getattr(test, name)) for name in SEEN))
    monkeypatch.setattr(batches, "SCORE_ROWS", 7)
    found = predict.mean_gates(hinet(), test, "hinet")
    assert set(found) == set(whole)
    for gate, weights in whole.items():
        for scenario in (0, 1):
            np.testing.assert_allclose(found[gate][scenario], weights[test.scenario == scenario].mean(0), atol=1e-6)
        assert np.isnan(found[gate][2]).all()


def test_cells_come_by_scenario_and_task_with_the_form_of_the_report():
    """Every cell has the promised keys, in the order of the schema, and scikit-learn's AUC."""
    test, truth = rows()
    found = evaluate.measure(truth, test, SCHEMA, SETTINGS)
    places = [(s, t) for s in SCHEMA.scenarios for t in SCHEMA.task_names]
    assert [(cell["scenario"], cell["task"]) for cell in found["cells"]] == places
    for cell in found["cells"]:
        assert list(cell) == [
            "scenario",
            "task",
            "auc",
            "auc_low",
            "auc_high",
            "logloss",
            "ne",
            "calibration",
            "ece",
            "gauc",
            "rows",
            "positives",
        ]
        kept, task = test.scenario == SCHEMA.scenarios.index(cell["scenario"]), SCHEMA.task_names.index(cell["task"])
        assert cell["auc"] == pytest.approx(roc_auc_score(test.labels[kept, task], truth[kept, task]), abs=1e-6)
        assert (cell["rows"], cell["positives"]) == (kept.sum(), test.labels[kept, task].sum())
    assert found["mean_auc"] == pytest.approx(np.mean([cell["auc"] for cell in found["cells"]]), abs=1e-6)


def test_a_cell_without_an_answer_says_why():
    """One class, no rows, unobserved labels: null and a reason, never NaN, and it does not count in the mean."""
    test, truth = rows()
    test.scenario[test.scenario == 2] = 1
    test.labels[test.scenario == 0, 0] = 1
    test.labels[test.scenario == 1, 1] = np.nan
    found = evaluate.measure(truth, test, SCHEMA, SETTINGS)
    cells = {(cell["scenario"], cell["task"]): cell for cell in found["cells"]}
    one, none, empty = cells["feed", "click"], cells["search", "order"], cells["channel", "click"]
    assert one["reason"].startswith("one class only: ")
    assert (one["auc"], one["ne"], one["gauc"]) == (None, None, None)
    assert one["calibration"] is not None
    assert none["reason"] == empty["reason"] == "no rows with this label"
    assert "reason" not in cells["search", "click"]
    assert "NaN" not in json.dumps(found)
    assert found["mean_auc"] == pytest.approx((cells["feed", "order"]["auc"] + cells["search", "click"]["auc"]) / 2)


def test_no_interval_and_no_user_are_reasons_too():
    """A single positive has an AUC without an interval; users of one row each have no grouped AUC."""
    labels = np.array([1.0, 0, 0, 0])
    single = evaluate.measure_cell(labels, np.array([0.9, 0.1, 0.2, 0.3]), np.zeros(4, int), SETTINGS)
    assert (single["auc"], single["auc_low"]) == (1, None)
    assert single["reason"].startswith("no interval: it needs two rows of each class")
    alone = evaluate.measure_cell(labels, np.array([0.9, 0.1, 0.2, 0.3]), np.arange(4), SETTINGS)
    assert alone["reason"] == "no user with both classes"


def test_a_cell_of_classes_has_accuracy_and_what_the_commonest_class_would_reach():
    """By hand: three of four right, half of the rows of one class; no rows give None and say so."""
    labels = np.array([0.0, 0, 1, 2])
    likely = np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    found = evaluate.measure_classes(labels, likely, SETTINGS)
    assert (found["metric"], found["accuracy"], found["majority"], found["rows"]) == ("accuracy", 0.75, 0.5, 4)
    assert found["accuracy_low"] < 0.75 < found["accuracy_high"]
    assert found["logloss"] == pytest.approx(-np.log([0.6, 0.5, 0.8, 0.3]).mean(), abs=1e-6)
    empty = evaluate.measure_classes(np.zeros(0), np.zeros((0, 3)), SETTINGS)
    assert (empty["accuracy"], empty["logloss"], empty["reason"]) == (None, None, "no rows with this label")


def test_a_cell_of_a_choice_has_hit_rates_within_the_sets():
    """By hand: of three sets the first is hit, the second comes second, the third has nobody chosen."""
    labels, sets = np.array([1.0, 0, 0, 1, 0, 0, 0]), np.array([4, 4, 9, 9, 2, 2, 2])
    found = evaluate.measure_choice(labels, np.array([0.9, 0.1, 0.8, 0.2, 0.9, 0.1, 0.1]), sets, SETTINGS)
    expected = {"metric": "hr1", "hr1": 0.5, "hr5": 1.0, "chance": 0.5, "rows": 7, "sets": 2}
    assert {name: found[name] for name in expected} == expected
    alone = evaluate.measure_choice(np.ones(3), np.ones(3), np.arange(3), SETTINGS)
    assert (alone["hr1"], alone["chance"], alone["sets"]) == (None, None, 0)
    assert alone["reason"] == "no set with a chosen candidate and another one"
    empty = evaluate.measure_choice(np.zeros(0), np.zeros(0), np.zeros(0, int), SETTINGS)
    assert empty["reason"] == "no rows with this label"


def test_the_limit_is_the_truth_of_the_same_rows(tmp_path):
    """Joined by event id, whatever the order of the file."""
    test, truth = rows()
    write_truth(tmp_path, test, truth, order=np.random.default_rng(1).permutation(600))
    np.testing.assert_array_equal(evaluate.best_possible(tmp_path, test, SCHEMA), truth)


def test_no_limit_where_the_truth_is_not_known(tmp_path):
    """A real log has no truth: no limit."""
    pq.write_table(pa.table({"event_id": pa.array([], pa.int64())}), tmp_path / "truth.parquet")
    assert evaluate.best_possible(tmp_path, rows()[0], SCHEMA) is None


def test_the_truth_of_another_log_is_refused(tmp_path):
    """A test row without a true probability is an error that counts them."""
    test, truth = rows()
    write_truth(tmp_path, test, truth, order=np.arange(595))
    with pytest.raises(JoinError, match="no true probability for 5 of 600 test rows"):
        evaluate.best_possible(tmp_path, test, SCHEMA)


def write_truth(folder, test, truth, *, order):
    """truth.parquet with these of the rows, in this order."""
    columns = {f"p_{task}": truth[order, column] for column, task in enumerate(SCHEMA.task_names)}
    pq.write_table(pa.table({"event_id": test.event_id[order], **columns}), folder / "truth.parquet")


def test_predictions_are_kept_as_they_are(tmp_path):
    """Event, scenario, labels with null where unobserved, and the very logits."""
    test, _ = rows(count=30)
    test.labels[3, 1] = np.nan
    logits = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    evaluate.write_predictions(tmp_path / "new" / "hinet.parquet", logits, test, SCHEMA)
    found = pq.read_table(tmp_path / "new" / "hinet.parquet")
    assert found.column_names == ["event_id", "scenario", "click", "logit_click", "order", "logit_order"]
    assert found["event_id"].to_pylist() == test.event_id.tolist()
    assert found["scenario"].to_pylist() == [SCHEMA.scenarios[code] for code in test.scenario]
    assert found["order"].to_pylist()[3] is None
    assert found["click"].to_pylist() == test.labels[:, 0].tolist()
    np.testing.assert_array_equal(found["logit_order"].to_numpy(), logits[:, 1])


def test_a_schema_that_differs_is_refused(monkeypatch, tmp_path):
    """A model that was trained on other columns must not be measured on these rows."""
    trained = dataclasses.replace(SCHEMA, name="other")
    monkeypatch.setattr(evaluate, "read_model", lambda folder: type("Model", (), {"schema": trained}))
    with pytest.raises(ModelError, match="trained on the schema of other"):
        evaluate._read(tmp_path, SCHEMA)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which two models, test rows and their truth are ready to be evaluated."""
    folder = tmp_path_factory.mktemp("project")
    world.write_params(folder)
    for name, declared in (("schema", SCHEMA), ("views", VIEWS)):
        (folder / f"{name}.json").write_text(to_json(declared))
    ENCODER.write(folder / "encoder.json")
    test, truth = rows()
    (folder / "tensors" / "test").mkdir(parents=True)
    for name, column in vars(test).items():
        if column is not None:  # a schema without a choice has no choice_set
            np.save(folder / "tensors" / "test" / f"{name}.npy", column)
    (folder / "truth").mkdir()
    write_truth(folder / "truth", test, truth, order=np.arange(600))
    bottom = {"embedding_width": 4, "bottom_units": (8,), "tower_units": (4,)}
    torch.manual_seed(0)
    for name, kind, units in (("hinet", HiNet, UNITS), ("shared_bottom", SharedBottom, bottom)):
        arguments = {**SHAPE, **units, "tasks": 2}
        write_model(
            folder / "models" / name,
            model_name=name,
            network=kind(**arguments),
            arguments=arguments,
            summary={},
            curves=CURVES,
            behaviour={},
            schema=folder / "schema.json",
            views=folder / "views.json",
            encoder=folder / "encoder.json",
            reference=folder / "schema.json",
        )
    return folder


CURVES = [
    {
        "epoch": number,
        "train_loss": 0.3,
        "valid_loss": 0.4,
        "valid_mean_auc": 0.7,
        "cells": {f"{s}/{t}": 0.7 for s in SCHEMA.scenarios for t in SCHEMA.task_names} | {"feed/order": None},
    }
    for number in (1, 2)
]


def run_stage(project, out):
    """Run the stage in `project`, with everything it writes under `out`; returns `out`."""
    with contextlib.chdir(project):
        evaluate.evaluate(
            models=[project / "models" / "hinet", project / "models" / "shared_bottom"],
            tensors=project / "tensors",
            truth=project / "truth",
            schema=project / "schema.json",
            out=out / "metrics.json",
            plots_out=out / "plots",
            page_out=out / "page.html",
            predictions=out / "predictions",
        )
    return out


@pytest.fixture(scope="module")
def evaluated(project, tmp_path_factory):
    """What the stage wrote."""
    return run_stage(project, tmp_path_factory.mktemp("evaluated"))


def test_the_stage_reports_every_model_and_the_limit(evaluated):
    """Models in the order of the command, the limit last and best; each has its cells and their mean."""
    report = json.loads((evaluated / "metrics.json").read_text())
    assert list(report) == ["hinet", "shared_bottom", "limit"]
    assert report["limit"]["mean_auc"] > max(report["hinet"]["mean_auc"], report["shared_bottom"]["mean_auc"])
    assert {frozenset(found) for found in report.values()} == {frozenset({"cells", "mean_auc"})}


def test_the_predictions_are_those_of_the_network(evaluated, project):
    """The logits in the file are the very ones of the model folder on the test rows."""
    test, _ = rows()
    logits = predict.predict(read_model(project / "models" / "hinet").network, test, "hinet")
    found = pq.read_table(evaluated / "predictions" / "hinet.parquet")
    np.testing.assert_array_equal(found["logit_click"].to_numpy(), logits[:, 0])


def test_the_stage_is_repeatable_to_the_byte(evaluated, project, tmp_path, capsys):
    """The same models and rows: the same bytes in every file; at the end the table is printed."""
    run_stage(project, tmp_path)
    assert "best possible" in capsys.readouterr().out
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
        for out in (evaluated, tmp_path)
    )
    assert len(first) == 10
    assert first == second


def test_dvc_reads_the_mean_of_every_model(evaluated, tmp_path, monkeypatch):
    """`dvc metrics show` lists the mean AUC by model (it passes over lists, so the cells are for the table)."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\nno_scm = true\nanalytics = false\n")
    (tmp_path / "metrics.json").write_bytes((evaluated / "metrics.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    shown = metrics_show("metrics.json")
    assert set(shown) == {"hinet", "shared_bottom", "limit"}
    assert all(isinstance(found["mean_auc"], float) for found in shown.values())
