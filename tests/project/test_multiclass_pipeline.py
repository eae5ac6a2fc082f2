"""A log with the four tasks When, How, Where, Via, on its whole way: multi-class tasks and choices among candidates."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common import params
from common.errors import SchemaError, ValidationError
from features.aggregate import aggregate
from features.encode import encode
from features.encoding.encoder import Batch, Encoder, Layout
from features.encoding.fitting import fit_encoder
from features.encoding.tensors import open_tensors, write_tensors
from features.join import join
from features.quality.tensors import check_tensors
from features.quality.training_set import check_training
from features.schema import read_views, to_json
from features.validate import validate
from models.evaluate import evaluate
from models.evaluation.accuracy import probabilities_of
from models.networks.data_spec import DataSpec
from models.peers.shared_mlp import SharedMLP, SharedMLPConfig
from serving.ranking.scorer import as_probabilities
from tests.support import rich_world, travel_log, world
from tests.support.travel_model import RECIPE, SCHEMA, SPLITS, as_arrow, write_fitted, write_tensors_of

pytestmark = pytest.mark.integration


def run_gate() -> None:
    """The stage validate in this folder."""
    validate(
        schema=Path("schema.json"),
        ingested=Path("ingested"),
        out=Path("validated"),
        quarantine=Path("quarantine"),
        report=Path("validation.json"),
        docs=Path("docs"),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage after stage on 540 trips, from what ingest writes to tensors, split at random."""
    folder = tmp_path_factory.mktemp("travel")
    frames, _ = travel_log.tables(trips=540)
    rich_world.write(folder / "ingested", as_arrow(frames))
    (folder / "schema.json").write_text(to_json(SCHEMA))
    world.write_params(folder, join__split="random", encode__minimum_count=1)
    schema, features = Path("schema.json"), Path("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_gate()
        aggregate(schema=schema, validated=Path("validated"), out=features)
        join(schema=schema, validated=Path("validated"), features=features, out=Path("training"))
        encode(
            schema=schema,
            views=features / "views.json",
            training=Path("training"),
            encoder=Path("encoder.parquet"),
            out=Path("tensors"),
        )
    return folder


def test_classes_and_choices_pass_the_quality_gates(built: Path) -> None:
    """A training set split at random, labels that are class indices, and the codes of the choices are as wanted."""
    settings = params.Inspect(**world.section("inspect"))
    views, training = read_views(built / "features" / "views.json"), built / "training"
    joined = check_training(
        SCHEMA,
        views,
        settings,
        validated=built / "validated",
        features=built / "features",
        training=training,
        by_time=False,
    )
    encoder = Encoder.read(built / "encoder.parquet")
    encoded = check_tensors(SCHEMA, encoder, settings, training=training, tensors=built / "tensors")
    assert not [fault.rule.name for suite in (*joined, *encoded) for fault in suite.faults]


def test_the_gate_lets_the_log_pass_and_stops_a_class_that_is_not_declared(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of a valid log goes on; an undeclared class is a broken row."""
    assert sum(pq.read_metadata(path).num_rows for path in built.glob("validated/events/*/*.parquet")) == 540 * 9
    frames, _ = travel_log.tables(trips=30)
    frames["events"].loc[frames["events"]["how"].notna().idxmax(), "how"] = 50
    rich_world.write(tmp_path / "ingested", as_arrow(frames))
    (tmp_path / "schema.json").write_text(to_json(SCHEMA))
    world.write_params(tmp_path, validate__tolerance=0.0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match="how outside its values: 1 rows"):
        run_gate()


def test_statistics_are_of_what_has_a_rate(built: Path) -> None:
    """A rate for each choice, none for classes; the recent items are the locations chosen as destination."""
    names = [column.name for view in read_views(built / "features" / "views.json") for column in view.columns]
    assert {name.split("_rate_")[0] for name in names if "_rate_" in name} == {
        f"{prefix}_{task}" for prefix in ("user", "item", "user_in_scenario") for task in ("where", "via")
    }
    recent, _ = read_views(built / "features" / "views.json")[0].columns[-2:]
    assert recent.desc == "items of the newest impressions with where = 1, newest last"


def test_the_candidates_of_a_trip_stay_together(built: Path) -> None:
    """A split at random holds its shares of the trips, and no trip is torn."""
    trips = [set(pq.read_table(built / "training" / f"{split}.parquet")["trip"].to_pylist()) for split in SPLITS]
    assert sum(map(len, trips)) == len(set.union(*trips)) == 540
    shares = world.section("join")
    assert len(trips[2]) / 540 == pytest.approx(shares["test_share"], abs=0.05)


def test_labels_are_class_indices_and_sets_are_codes(built: Path) -> None:
    """Against the rows of the joined log, one by one; NaN where unobserved."""
    for split in SPLITS:
        rows, tensors = (
            pq.read_table(built / "training" / f"{split}.parquet").to_pylist(),
            open_tensors(built / "tensors" / split),
        )
        expected = [
            [index_of(row["when"], travel_log.WHEN), index_of(row["how"], travel_log.HOW), row["where"], row["via"]]
            for row in rows
        ]
        np.testing.assert_array_equal(tensors.labels, np.array(expected, dtype=np.float32))
        pairs = {(row["trip"], code) for row, code in zip(rows, tensors.choice_set.tolist(), strict=True)}
        assert len(pairs) == len({trip for trip, _ in pairs}) == len({code for _, code in pairs})


def test_hinet_comes_near_the_best_possible_in_every_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each purpose has another rule for each task; from the schema to metrics.json, against the truth.

    Every cell is within 0.06 of what the true probabilities reach on the same rows, and gains at
    least 0.8 of what there is to gain over who knows nothing of a row. Table, plots and predictions are there.
    """
    monkeypatch.chdir(tmp_path)
    truth = write_tensors_of(tmp_path)
    (tmp_path / "truth").mkdir()
    truth.to_parquet(tmp_path / "truth" / "truth.parquet", index=False)
    write_fitted(tmp_path)
    evaluate(
        models=[tmp_path / "hinet"],
        tensors=tmp_path / "tensors",
        truth=tmp_path / "truth",
        schema=tmp_path / "schema.json",
        out=tmp_path / "metrics.json",
        plots_out=tmp_path / "plots",
        predictions=tmp_path / "predictions",
    )
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert [cell["metric"] for cell in report["hinet"]["cells"]] == ["accuracy", "accuracy", "hr1", "hr1"] * 3
    for cell, best in zip(report["hinet"]["cells"], report["limit"]["cells"], strict=True):
        metric = cell["metric"]
        blind = cell["majority"] if metric == "accuracy" else cell["chance"]
        assert cell[metric] > best[metric] - 0.06, (cell, best)
        assert cell[metric] - blind > 0.8 * (best[metric] - blind), (cell, best)
        if cell["task"] in travel_log.SURE:
            assert best["accuracy"] == pytest.approx(travel_log.SURE[cell["task"]], abs=0.06)
    assert report["hinet"]["mean"] == pytest.approx(
        np.mean([cell[cell["metric"]] for cell in report["hinet"]["cells"]]), abs=1e-6
    )
    assert "HR@1" in capsys.readouterr().out
    check_figures(tmp_path)


def check_figures(folder: Path) -> None:
    """What is about AUC leaves these tasks out; probabilities of choices have a reliability; predictions are whole."""
    rows = {path.stem: json.loads(path.read_text()) for path in (folder / "plots").glob("*.json")}
    assert (rows["auc"], rows["cells"]) == ([], [])
    assert {row["task"] for row in rows["reliability"]} == {"where", "via"}
    assert {row["panel"] for row in rows["gates"]} >= {f"task {task}" for task in SCHEMA.task_names}
    assert len(rows["learning"]) == RECIPE.epochs
    predictions, test = pq.read_table(folder / "predictions" / "hinet.parquet"), pq.read_table(folder / "test.parquet")
    for task in SCHEMA.task_names:
        assert predictions[task].to_pylist() == test[task].to_pylist()
    assert {f"logit_{name}" for name in SCHEMA.output_names} <= set(predictions.column_names)


def test_probabilities_are_those_of_evaluate_when_served(tmp_path: Path) -> None:
    """A sigmoid for a choice, a softmax for classes, in the service as in evaluate."""
    layout = Layout((9,), (0,), (), (), 0, 3)
    torch.manual_seed(0)
    outputs = [task.outputs for task in SCHEMA.tasks]
    data = DataSpec(**vars(layout), task_outputs=outputs)
    network = SharedMLP(data, SharedMLPConfig(embedding_width=4, units=(8,))).eval()
    ids, none = np.arange(9, dtype=np.int32)[:, None], np.empty((9, 0), np.int32)
    batch = Batch(ids, none, none.astype(np.float32), np.zeros(9, np.int32))
    with torch.no_grad():
        logits = network(*(torch.from_numpy(part) for part in vars(batch).values()))
    probabilities = as_probabilities(logits, outputs)
    np.testing.assert_allclose(probabilities, probabilities_of(logits.numpy(), SCHEMA.tasks), rtol=1e-12)


def index_of(value: Any, classes: tuple[Any, ...]) -> int | None:
    """The index of the value among the classes."""
    return None if value is None else classes.index(value)


def test_a_class_that_is_not_declared_cannot_be_encoded(tmp_path: Path) -> None:
    """The message names the task, the value and the classes."""
    events = as_arrow(travel_log.tables(trips=5)[0])["events"]
    strange = pa.array(["dusk"] + [None] * (len(events) - 1))
    events = events.set_column(events.column_names.index("when"), "when", strange)
    pq.write_table(events, tmp_path / "train.parquet")
    columns = tuple(c for c in SCHEMA.events if c.is_feature)
    encoder = fit_encoder(SCHEMA, columns, tmp_path / "train.parquet", 1)
    with pytest.raises(SchemaError, match=r"labels of when are \['dusk'\], none of its classes"):
        write_tensors(encoder, SCHEMA, tmp_path / "train.parquet", tmp_path / "tensors")
