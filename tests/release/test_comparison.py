"""Challenger and champion on the same rows: the metrics of evaluate, each by its own encoder."""

import dataclasses
import json
import shutil
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import ReleaseError
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.schema import Column, DType, Role, output_slices
from models.evaluation import accuracy
from models.evaluation.delong import mean_estimate
from models.evaluation.predict import predict
from models.evaluation.report import measure
from models.model_folder import Model, read_model
from release.comparison import LabelledRows, compare, first_unseen_day
from tests.support import tiny_project, travel_log, world

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def champion(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Another model than the project's, with smaller vocabularies."""
    root = tmp_path_factory.mktemp("champion")
    known = Encoder.read(project / "artifacts/encoder.parquet")
    fewer = {name: values[: len(values) // 2] for name, values in known.vocabularies.items()}
    encoder = Encoder(known.scenario, known.scenarios, known.columns, fewer, known.scales)
    return read_model(tiny_project.write_model_of(encoder, project, root, seed=3))


def test_the_metrics_are_those_of_evaluate(project: Path) -> None:
    """Mean, AUC of every cell and calibration, to the digits that evaluate writes, on the same rows."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/test.parquet"
    metrics = compare(model, None, rows, 0.95)
    test = open_tensors(project / "data/tensors/test")
    probabilities = accuracy.probabilities_of(predict(model.network, test, "hinet"), model.schema.tasks)
    settings = params.Evaluate(bins=10, confidence=0.95)
    evaluated = {
        f"{c['scenario']}/{c['task']}": c for c in measure(probabilities, test, model.schema, settings)["cells"]
    }
    assert metrics.rows == len(test.labels)
    for cell in metrics.cells:
        assert cell.challenger == pytest.approx(evaluated[cell.name]["auc"], abs=1e-6)
    assert {cell.name for cell in metrics.cells} == {
        name for name, cell in evaluated.items() if cell["auc_low"] is not None
    }
    assert metrics.mean == pytest.approx(np.mean([cell.challenger for cell in metrics.cells]))
    assert metrics.gain.value == pytest.approx(metrics.mean - 0.5)
    ratios = {name: cell["calibration"] for name, cell in evaluated.items() if cell["calibration"] is not None}
    assert {name: ratio.value for name, ratio in metrics.calibration.items()} == pytest.approx(ratios, rel=1e-4)


def test_each_is_scored_by_its_own_encoder(project: Path, champion: Model) -> None:
    """With other vocabularies: each model has the metrics of a single evaluation, and the gain is their difference."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/test.parquet"
    assert champion.encoder.layout != model.encoder.layout
    metrics, single, other = (
        compare(model, champion, rows, 0.95),
        compare(model, None, rows, 0.95),
        compare(champion, None, rows, 0.95),
    )
    assert metrics.gain.value == pytest.approx(single.mean - other.mean)
    assert [cell.champion for cell in metrics.cells] == [cell.challenger for cell in other.cells]
    assert [cell.challenger for cell in metrics.cells] == [cell.challenger for cell in single.cells]
    assert (metrics.champion, metrics.same) == (champion.tag, False)


def test_a_model_gains_nothing_over_itself(project: Path) -> None:
    """To the last bit, in every cell; and it is recognised as the same model."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/test.parquet"
    metrics = compare(model, model, rows, 0.95)
    assert metrics.same
    for gain in (metrics.gain, *(cell.gain for cell in metrics.cells)):
        assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_a_champion_whose_columns_are_missing_is_rejected(project: Path, champion: Model, tmp_path: Path) -> None:
    """The message has the columns and the file."""
    rows = pq.read_table(project / "data/training/test.parquet").drop_columns(["price"])
    pq.write_table(rows, tmp_path / "test.parquet")
    with pytest.raises(ReleaseError, match=r"reads the columns \['price'\], which .*test.parquet does not have"):
        compare(read_model(project / tiny_project.MODEL), champion, tmp_path / "test.parquet", 0.95)


def test_rows_that_the_champion_may_be_trained_on_do_not_count(project: Path, champion: Model, tmp_path: Path) -> None:
    """With a first day, the metrics are those of a file that begins there; without any row left, that is an error."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/train.parquet"
    table = pq.read_table(rows)
    days = sorted({timestamp.date() for timestamp in table["timestamp"].to_pylist()})
    later = table.filter(pc.greater_equal(table["timestamp"], datetime.combine(days[1], time())))
    pq.write_table(later, tmp_path / "later.parquet")
    metrics = compare(model, champion, rows, 0.95, since=days[1])
    assert 0 < metrics.rows < table.num_rows
    single = compare(model, champion, tmp_path / "later.parquet", 0.95)
    assert (metrics.rows, metrics.mean) == (single.rows, pytest.approx(single.mean))
    assert [(cell.name, cell.champion) for cell in metrics.cells] == [
        (cell.name, pytest.approx(cell.champion)) for cell in single.cells
    ]
    assert metrics.calibration.keys() == single.calibration.keys()
    with pytest.raises(ReleaseError, match=f"from {days[-1] + DAY} on, .* found none later than {days[-1]}"):
        compare(model, champion, rows, 0.95, since=days[-1] + DAY)


def test_the_first_unseen_day_follows_the_days_of_the_champion(project: Path, tmp_path: Path) -> None:
    """Trained on the same rows, both have seen no test row; trained up to a day, all rows until then may be seen."""
    model = project / tiny_project.MODEL
    assert first_unseen_day(model, model) is None
    older = shutil.copytree(model, tmp_path / "older") / "reference.json"
    plain = json.loads(older.read_text())
    days = len(plain["rows"])
    older.write_text(json.dumps(plain | {"rows": plain["rows"][:-1]}))
    assert first_unseen_day(model, older.parent) == date.fromisoformat(plain["first_day"]) + (days - 1) * DAY
    description = json.loads((older.parent / "model.json").read_text())
    description["summary"]["last_day"] = plain["first_day"]  # it has learned from its validation rows
    (older.parent / "model.json").write_text(json.dumps(description))
    assert first_unseen_day(model, older.parent) == date.fromisoformat(plain["first_day"]) + DAY


def test_too_few_rows_are_an_error(project: Path, tmp_path: Path) -> None:
    """Without a cell of two rows of each class, nothing can be compared."""
    pq.write_table(pq.read_table(project / "data/training/test.parquet").slice(0, 1), tmp_path / "test.parquet")
    with pytest.raises(ReleaseError, match="expected a cell with two rows of each class, found none"):
        compare(read_model(project / tiny_project.MODEL), None, tmp_path / "test.parquet", 0.95)


def test_the_interval_of_calibration_is_that_of_the_positives(tmp_path: Path) -> None:
    """100 positives of 10,000: a factor of exp(1.96 sqrt(0.99 / 100)); a cell without a positive has no ratio."""
    clicks = np.zeros(10_000, np.int8)
    clicks[:100] = 1
    rows = pa.table({"scenario": ["feed"] * 10_000, "click": clicks, "order": np.zeros(10_000, np.int8)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    ratios = LabelledRows(world.schema(), tmp_path / "rows.parquet").calibration(np.full((10_000, 2), 0.02), 0.95)
    assert list(ratios) == ["feed/click"]
    ratio, factor = ratios["feed/click"], np.exp(1.959964 * np.sqrt(0.99 / 100))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2 / factor, 2 * factor), rel=1e-6)


def test_calibration_is_that_of_the_weighted_rows(tmp_path: Path) -> None:
    """A model of rows in which a click counts three times predicts their rate, 0.5, where a quarter clicks."""
    tiny = world.schema()
    weight = Column(name="w", role=Role.WEIGHT, dtype=DType.FLOAT32)
    clicks = np.arange(400) % 4 == 0
    rows = {"scenario": ["feed"] * 400, "click": clicks.astype("int8"), "order": clicks.astype("int8")}
    pq.write_table(pa.table(rows | {"w": np.where(clicks, 3, 1).astype("float32")}), tmp_path / "rows.parquet")
    labelled = LabelledRows(dataclasses.replace(tiny, events=(*tiny.events, weight)), tmp_path / "rows.parquet")
    ratio, factor = labelled.calibration(np.full((400, 2), 0.5), 0.95)["feed/click"], np.exp(1.959964 * np.sqrt(0.005))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1, 1 / factor, factor), rel=1e-6)


def test_classes_and_choices_have_their_own_chance_and_calibration(tmp_path: Path) -> None:
    """The chance of classes is the commonest share, of choices the mean of 1 / candidates; a ratio for each class."""
    schema, (tables, truth) = travel_log.schema(), travel_log.tables(trips=400)
    events = tables["events"]
    names = [schema.scenario, *schema.task_names, schema.choice_set]
    pq.write_table(pa.Table.from_pandas(events[names], preserve_index=False), tmp_path / "rows.parquet")
    labelled = LabelledRows(schema, tmp_path / "rows.parquet")
    best = np.stack([truth[f"p_{name}"] for name in schema.output_names], axis=1)
    cells = labelled.estimate(best)
    assert len(cells) == len(schema.scenarios) * len(schema.tasks)
    assert labelled.chance("commute/where") == pytest.approx(1 / travel_log.WHERE)
    assert labelled.chance("commute/via") == pytest.approx(1 / travel_log.VIA)
    inside = events[(events[schema.scenario] == "commute") & events["when"].notna()]
    assert labelled.chance("commute/when") == pytest.approx(inside["when"].value_counts(normalize=True).max())
    assert mean_estimate(list(cells.values())).value > np.mean([labelled.chance(name) for name in cells]) + 0.1
    ratios = labelled.calibration(best, 0.999)
    assert {f"commute/when={name}" for name in travel_log.WHEN} <= set(ratios)
    outputs = output_slices(schema.tasks)[0]
    outside = [name for name, ratio in ratios.items() if ratio.low > 1.3 or ratio.high < 1 / 1.3]
    assert outside == []
    assert best[:, outputs].shape[1] == len(travel_log.WHEN)
