"""Challenger and champion on the same rows: the figures of evaluate, by each one's own encoder."""

import contextlib
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
from features.encoding.tensors import open_tensors, write_tensors
from features.schema import places
from models.evaluate import measure
from models.evaluation import accuracy
from models.evaluation.delong import mean
from models.evaluation.predict import predict
from models.model_folder import Model, read_model
from release.comparison import Truth, compare, unseen
from tests.support import tiny_project, travel_log, world

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def champion(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Another model than the project's, with an encoder that knows fewer values."""
    root = tmp_path_factory.mktemp("champion")
    held = Encoder.read(project / "artifacts/encoder.json")
    fewer = {name: values[: len(values) // 2] for name, values in held.tables.items()}
    encoder = Encoder(held.scenario, held.scenarios, held.columns, fewer, held.scales)
    encoder.write(root / "encoder.json")
    write_tensors(encoder, world.schema(), project / "data/training/valid.parquet", root / "valid")
    shutil.copyfile(project / "params.yaml", root / "params.yaml")
    with contextlib.chdir(root):
        tiny_project.write_random_model(
            root / "model",
            schema=project / "data/schema.json",
            views=project / "data/features/views.json",
            encoder=root / "encoder.json",
            reference=project / "artifacts/reference.json",
            valid=root / "valid",
            seed=3,
        )
    return read_model(root / "model")


def test_the_figures_are_those_of_evaluate(project: Path) -> None:
    """Mean, AUC of every cell and calibration, to the digits that evaluate writes; the tensors are the same rows."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/test.parquet"
    found = compare(model, None, rows, 0.95)
    test = open_tensors(project / "data/tensors/test")
    said = accuracy.probabilities_of(predict(model.network, test, "hinet"), model.schema.tasks)
    settings = params.Evaluate(bins=10, confidence=0.95)
    told = {f"{c['scenario']}/{c['task']}": c for c in measure(said, test, model.schema, settings)["cells"]}
    assert found.rows == len(test.labels)
    for cell in found.cells:
        assert cell.challenger == pytest.approx(told[cell.name]["auc"], abs=1e-6)
    assert {cell.name for cell in found.cells} == {name for name, cell in told.items() if cell["auc_low"] is not None}
    assert found.mean == pytest.approx(np.mean([cell.challenger for cell in found.cells]))
    assert found.gain.value == pytest.approx(found.mean - 0.5)
    ratios = {name: cell["calibration"] for name, cell in told.items() if cell["calibration"] is not None}
    assert {name: ratio.value for name, ratio in found.calibration.items()} == pytest.approx(ratios, rel=1e-4)


def test_each_is_scored_by_its_own_encoder(project: Path, champion: Model) -> None:
    """Vocabularies of other sizes: each model has the figures that it has alone, and the gain is their difference."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/test.parquet"
    assert champion.encoder.layout != model.encoder.layout
    found, alone, other = (
        compare(model, champion, rows, 0.95),
        compare(model, None, rows, 0.95),
        compare(champion, None, rows, 0.95),
    )
    assert found.gain.value == pytest.approx(alone.mean - other.mean)
    assert [cell.champion for cell in found.cells] == [cell.challenger for cell in other.cells]
    assert [cell.challenger for cell in found.cells] == [cell.challenger for cell in alone.cells]
    assert (found.champion, found.same) == (champion.tag, False)


def test_a_model_gains_nothing_over_itself(project: Path) -> None:
    """To the last bit, in every cell; and it is known for the same."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/test.parquet"
    found = compare(model, model, rows, 0.95)
    assert found.same
    for gain in (found.gain, *(cell.gain for cell in found.cells)):
        assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_a_champion_that_reads_what_is_there_no_more_is_told(project: Path, champion: Model, tmp_path: Path) -> None:
    """The message names its columns and the file."""
    rows = pq.read_table(project / "data/training/test.parquet").drop_columns(["price"])
    pq.write_table(rows, tmp_path / "test.parquet")
    with pytest.raises(ReleaseError, match=r"reads the columns \['price'\], which .*test.parquet has no more"):
        compare(read_model(project / tiny_project.MODEL), champion, tmp_path / "test.parquet", 0.95)


def test_rows_that_the_champion_may_have_learnt_do_not_count(project: Path, champion: Model, tmp_path: Path) -> None:
    """From a day on: the figures are those of a file that begins there; where nothing is left, that is said."""
    model, rows = read_model(project / tiny_project.MODEL), project / "data/training/train.parquet"
    table = pq.read_table(rows)
    days = sorted({moment.date() for moment in table["timestamp"].to_pylist()})
    later = table.filter(pc.greater_equal(table["timestamp"], datetime.combine(days[1], time())))
    pq.write_table(later, tmp_path / "later.parquet")
    found = compare(model, champion, rows, 0.95, since=days[1])
    assert 0 < found.rows < table.num_rows
    alone = compare(model, champion, tmp_path / "later.parquet", 0.95)
    assert (found.rows, found.mean) == (alone.rows, pytest.approx(alone.mean))
    assert [(cell.name, cell.champion) for cell in found.cells] == [
        (cell.name, pytest.approx(cell.champion)) for cell in alone.cells
    ]
    assert found.calibration.keys() == alone.calibration.keys()
    with pytest.raises(ReleaseError, match=f"from {days[-1] + DAY} on, .* found none later than {days[-1]}"):
        compare(model, champion, rows, 0.95, since=days[-1] + DAY)


def test_a_champion_of_fewer_days_knows_nothing_of_the_next_one(project: Path, tmp_path: Path) -> None:
    """Trained on the same rows, both know none of the test rows; trained up to a day, all until then may be known."""
    model = project / tiny_project.MODEL
    assert unseen(model, model) is None
    older = shutil.copytree(model, tmp_path / "older") / "reference.json"
    plain = json.loads(older.read_text())
    days = len(plain["rows"])
    older.write_text(json.dumps(plain | {"rows": plain["rows"][:-1]}))
    assert unseen(model, older.parent) == date.fromisoformat(plain["first_day"]) + (days - 1) * DAY


def test_too_few_rows_are_told(project: Path, tmp_path: Path) -> None:
    """Where no cell has two rows of each class, nothing is judged."""
    pq.write_table(pq.read_table(project / "data/training/test.parquet").slice(0, 1), tmp_path / "test.parquet")
    with pytest.raises(ReleaseError, match="no cell has two rows of each class"):
        compare(read_model(project / tiny_project.MODEL), None, tmp_path / "test.parquet", 0.95)


def test_the_interval_of_calibration_is_that_of_the_positives(tmp_path: Path) -> None:
    """100 positives of 10,000: a factor of exp(1.96 sqrt(0.99 / 100)); a cell without a positive has no ratio."""
    happened = np.zeros(10_000, np.int8)
    happened[:100] = 1
    rows = pa.table({"scenario": ["feed"] * 10_000, "click": happened, "order": np.zeros(10_000, np.int8)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    found = Truth(world.schema(), tmp_path / "rows.parquet").calibration(np.full((10_000, 2), 0.02), 0.95)
    assert list(found) == ["feed/click"]
    ratio, factor = found["feed/click"], np.exp(1.959964 * np.sqrt(0.99 / 100))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2 / factor, 2 * factor), rel=1e-6)


def test_classes_and_choices_have_a_chance_and_a_calibration_of_their_own(tmp_path: Path) -> None:
    """Of classes the share of the commonest, of choices the mean of 1 / candidates; a ratio for each class."""
    schema, (tables, truth) = travel_log.schema(), travel_log.tables(trips=400)
    events = tables["events"]
    names = [schema.scenario, *schema.task_names, schema.choice_set]
    pq.write_table(pa.Table.from_pandas(events[names], preserve_index=False), tmp_path / "rows.parquet")
    found = Truth(schema, tmp_path / "rows.parquet")
    best = np.stack([truth[f"p_{name}"] for name in schema.output_names], axis=1)
    cells = found.estimate(best)
    assert len(cells) == len(schema.scenarios) * len(schema.tasks)
    assert found.chance("commute/where") == pytest.approx(1 / travel_log.WHERE)
    assert found.chance("commute/via") == pytest.approx(1 / travel_log.VIA)
    inside = events[(events[schema.scenario] == "commute") & events["when"].notna()]
    assert found.chance("commute/when") == pytest.approx(inside["when"].value_counts(normalize=True).max())
    assert mean(list(cells.values())).value > np.mean([found.chance(name) for name in cells]) + 0.1
    ratios = found.calibration(best, 0.999)
    assert {f"commute/when={name}" for name in travel_log.WHEN} <= set(ratios)
    place = places(schema.tasks)[0]
    outside = [name for name, ratio in ratios.items() if ratio.low > 1.3 or ratio.high < 1 / 1.3]
    assert outside == []
    assert best[:, place].shape[1] == len(travel_log.WHEN)
