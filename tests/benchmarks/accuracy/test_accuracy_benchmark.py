"""The accuracy benchmark: its protocol to the letter, its rows, its table."""

import dataclasses
import gc
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks.accuracy.benchmark import accuracy, fitted, run
from benchmarks.accuracy.protocols import (
    ENCODER,
    SCHEMA,
    TENSORS,
    movielens,
    outcomes,
    prepare,
    published_split,
    remember,
    unjudged,
    with_auxiliary,
)
from benchmarks.accuracy.report import Report, Run
from benchmarks.accuracy.rows import named, read_rows
from common import params
from common.errors import ParameterError
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.schema import read_schema
from models.networks.neighbours import Neighbours
from tests.support import movielens_archive

TRAIN = params.load().train
PROTOCOL = "a protocol"


def ratings(count: int) -> str:
    """Ratings of the four users of the tiny archive, in the official layout; movie 1 is liked, movie 2 is not."""
    random = np.random.default_rng(0)
    lines = ((1 + i % 4, 1 + i % 2, int(random.integers(3, 6)) - i % 2 * 2) for i in range(count))
    return "".join(f"{user}::{movie}::{stars}::{978300760 + i}\n" for i, (user, movie, stars) in enumerate(lines))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with a small ml-1m.zip."""
    movielens_archive.write(tmp_path, ratings=ratings(400))
    return tmp_path


def test_the_published_split_is_pandas_own_sample_twice() -> None:
    """8:1:1 of 1,000,209 rows are 800,167, 100,021 and 100,021; each row is in one part, by the seed 2021."""
    parts = published_split(pd.DataFrame({"row": np.arange(1_000_209)}))
    assert {name: len(part) for name, part in parts.items()} == {"train": 800167, "valid": 100021, "test": 100021}
    assert sorted(np.concatenate([part["row"] for part in parts.values()])) == list(range(1_000_209))
    again = pd.DataFrame({"row": np.arange(1_000_209)}).sample(frac=0.8, random_state=2021)
    assert parts["train"]["row"].tolist() == again["row"].tolist()


def test_movielens_has_eight_fields_and_both_labels_on_every_row(archive: Path, tmp_path: Path) -> None:
    """Rows are encoded by the eight categorical fields alone; every rating has a click and a like."""
    (tmp_path / "out").mkdir()
    settings = params.load()
    movielens(settings.model_copy(update={"dataset": movielens_archive.dataset(archive)}), tmp_path / "out")
    columns = {column.name for column in Encoder.read(tmp_path / "out" / ENCODER).columns}
    assert columns == {"user_id", "movie_id", "gender", "age", "occupation", "zip_code", "genre", "scenario"}
    train = open_tensors(tmp_path / "out" / TENSORS / "train")
    assert (train.categorical.shape, train.numeric.shape, train.bags.shape) == ((320, 8), (320, 0), (320, 0))
    assert not np.isnan(train.labels).any()
    assert (train.labels[:, 0] >= train.labels[:, 1]).all()
    assert (train.categorical > 0).all(), "each id of a training row is known"
    assert read_schema(tmp_path / "out" / SCHEMA).task_names == ("click", "like")


def test_a_protocol_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """Another data set, or MovieLens by time: the sentence names what there is."""
    with pytest.raises(ParameterError, match="expected one of movielens-1m, kuairand-pure, simulation"):
        prepare("criteo", None, None, tmp_path)
    with pytest.raises(ParameterError, match="the protocol of movielens-1m is random"):
        prepare("movielens-1m", None, "time", tmp_path)


def test_rows_start_from_params_and_change_what_they_say(tmp_path: Path) -> None:
    """The protocol's figures hold for every row, a row's own come on top; what nobody names is that of params.yaml."""
    table = {
        "protocols": {"here": {"embedding_width": 8, "recipe": {"batch_size": 64}, "shape": {"mmoe": {"experts": 3}}}},
        "rows": {
            "plain": {"network": "hinet"},
            "wide": {"network": "hinet", "embedding_width": 32, "shape": {"sub_experts": 7}, "recipe": {"epochs": 2}},
            "mmoe": {"network": "mmoe"},
        },
    }
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    plain, wide, mmoe = read_rows("here", ["all"], TRAIN, tmp_path / "rows.yaml")
    assert (plain.train.embedding_width, plain.train.batch_size, plain.train.epochs) == (8, 64, TRAIN.epochs)
    assert plain.facts()["shape"] == TRAIN.hinet.model_dump()
    assert (wide.train.embedding_width, wide.train.hinet.sub_experts, wide.train.epochs) == (32, 7, 2)
    assert wide.train.batch_size == 64
    assert mmoe.train.mmoe.experts == 3
    (elsewhere,) = read_rows("there", ["plain"], TRAIN, tmp_path / "rows.yaml")
    assert elsewhere.train == TRAIN


def test_a_row_that_is_not_there_is_named() -> None:
    """A misspelt model ends the benchmark before it begins, with the names that there are."""
    with pytest.raises(ParameterError, match=r"--models hynet.*it has hinet, shared_bottom"):
        read_rows("simulation", ["hinet", "hynet"], TRAIN)


def test_a_name_may_have_commas_in_brackets() -> None:
    """What the command is given is split at the commas between names only."""
    given = "hinet, hinet+ (no auxiliary tasks, width 16),mmoe"
    assert named(given) == ["hinet", "hinet+ (no auxiliary tasks, width 16)", "mmoe"]


def test_every_row_of_the_table_is_a_network_that_params_allow() -> None:
    """All rows can be read for every protocol, and all peers stand in the table under one recipe."""
    for dataset in ("movielens-1m", "kuairand-pure", "simulation"):
        rows = {row.name: row for row in read_rows(dataset, ["all"], TRAIN)}
        peers = {"hinet", "shared_bottom", "mlp_per_scenario", "shared_mlp", "mmoe", "ple", "star", "pepnet", "m3oe"}
        assert peers <= set(rows)
        assert len({json.dumps({**rows[name].facts(), "network": "", "shape": ""}) for name in peers}) == 1


def a_run(auc: float) -> Run:
    """A run of three scenarios and two tasks whose cells all have this AUC."""
    return Run(auc=[[auc, auc]] * 3, valid_auc=[[auc, auc]] * 3, best_epoch=2, parameters=10, samples_per_second=5)


@pytest.fixture
def prepared(archive: Path, tmp_path: Path) -> Path:
    """The small MovieLens, encoded."""
    prepare("movielens-1m", archive, None, tmp_path / "out")
    return tmp_path / "out"


def test_the_table_has_mean_and_deviation_of_the_seeds(prepared: Path, tmp_path: Path) -> None:
    """Two seeds with 0.7 and 0.8 are 0.75 with a sample's deviation of 0.0707, in every cell and on the whole."""
    report = Report(tmp_path / "r.json", "movielens-1m", PROTOCOL, prepared)
    (row,) = read_rows("movielens-1m", ["hinet"], TRAIN)
    for seed, auc in ((1, 0.7), (2, 0.8)):
        report.add(row, seed, a_run(auc))
    report.write([row], 2)
    found = json.loads((tmp_path / "r.json").read_text())
    assert set(found["models"]["hinet"]["cells"]) == {f"S{i}/T{j}" for i in (1, 2, 3) for j in (1, 2)}
    assert found["models"]["hinet"]["cells"]["S1/T1"] == {"mean": 0.75, "std": 0.070711, "values": [0.7, 0.8]}
    assert found["models"]["hinet"]["mean_auc"] == 0.75
    assert (found["scenarios"], found["tasks"]) == (["S1", "S2", "S3"], ["click", "like"])


def test_a_table_goes_on_where_it_was_stopped(prepared: Path, tmp_path: Path) -> None:
    """A run in the file is not run again, unless a figure of its row changed; another protocol's file is refused."""
    rows = read_rows("movielens-1m", ["hinet"], TRAIN)
    Report(tmp_path / "r.json", "movielens-1m", PROTOCOL, prepared).add(rows[0], 1, a_run(0.7))
    again = Report(tmp_path / "r.json", "movielens-1m", PROTOCOL, prepared)
    (changed,) = read_rows("movielens-1m", ["hinet"], TRAIN.model_copy(update={"average": 0.5}))
    assert [again.has(rows[0], 1), again.has(rows[0], 2), again.has(changed, 1)] == [True, False, False]
    with pytest.raises(ParameterError, match="give another --json"):
        Report(tmp_path / "r.json", "movielens-1m", "another", prepared)


def test_a_row_with_neighbours_is_told_so_in_its_figures_only(tmp_path: Path) -> None:
    """Runs of rows without neighbours stay what they were; a run with them is another one."""
    table = {"protocols": {}, "rows": {"plain": {"network": "hinet"}, "more": {"network": "hinet", "neighbours": True}}}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    plain, more = read_rows("here", ["all"], TRAIN, tmp_path / "rows.yaml")
    assert "neighbours" not in plain.facts()
    assert more.facts() == {**plain.facts(), "neighbours": True}


def test_neighbours_are_the_training_rows_and_none_else(prepared: Path) -> None:
    """Users, items and outcomes (neither, click, both: 0, 1, 2) of the training rows, by the ids of the encoder."""
    schema, encoder = read_schema(prepared / SCHEMA), Encoder.read(prepared / ENCODER)
    train = open_tensors(prepared / TENSORS / "train")
    users, items = encoder.layout.table_rows[:2]
    network = Neighbours(users=users, items=items, outcomes=3, width=2)
    remember(network, train, outcomes(train.labels)[0], encoder, schema)
    expected = sorted(
        (user * items + item, item * 3 + int(click + like))
        for (user, item), (click, like) in zip(train.categorical[:, :2].tolist(), train.labels.tolist(), strict=True)
    )
    assert network.pairs.tolist() == [pair for pair, _ in expected]
    assert sorted(network.rated_of_user.tolist()) == sorted(rated for _, rated in expected)


def test_an_outcome_is_a_combination_of_labels_that_occurs() -> None:
    """Rows with the same labels have the same outcome; those that occur are counted, a missing label is 0."""
    found, count = outcomes(np.array([[1, 1], [0, 0], [1, np.nan], [0, 1], [1, 1]], np.float32))
    assert (found.tolist(), count) == ([3, 0, 1, 2, 3], 4)
    found, count = outcomes(np.array([[1, 1], [0, 0], [1, 0]], np.float32))
    assert (found.tolist(), count) == ([2, 0, 1], 3)


def test_auxiliary_labels_are_steps_of_the_rating(prepared: Path) -> None:
    """Behind click and like stand rating > 1 and > 2, row by row as in the archive; nobody is to be chosen by them."""
    stars = np.array([int(line.split("::")[2]) for line in ratings(400).splitlines()])
    for part in ("train", "valid", "test"):
        rows = open_tensors(prepared / TENSORS / part)
        own = stars[rows.event_id]
        assert {1, 2, 3, 4, 5} == set(own)
        found = with_auxiliary(rows, ("above_1", "above_2"), prepared).labels
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.stack([own > 3, own > 4, own > 1, own > 2], axis=1))
    np.testing.assert_array_equal(unjudged(rows, ("above_1",)).labels[:, :2], rows.labels)
    assert np.isnan(unjudged(rows, ("above_1",)).labels[:, 2]).all()
    assert with_auxiliary(rows, (), prepared) is rows


def test_a_row_learns_auxiliary_tasks_where_the_protocol_has_some(tmp_path: Path) -> None:
    """Its figures name them; under a protocol that has none it is the row without."""
    table = {
        "protocols": {"here": {"auxiliary": ["above_1"]}},
        "rows": {"plain": {"network": "hinet"}, "more": {"network": "hinet", "auxiliary": True}},
    }
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    plain, more = read_rows("here", ["all"], TRAIN, tmp_path / "rows.yaml")
    assert "auxiliary" not in plain.facts()
    assert more.facts() == {**plain.facts(), "auxiliary": ["above_1"]}
    elsewhere, alike = read_rows("there", ["all"], TRAIN, tmp_path / "rows.yaml")
    assert alike.facts() == elsewhere.facts()


def test_a_fit_with_auxiliary_tasks_speaks_of_its_own_only(prepared: Path) -> None:
    """Two columns of logits come back, of a network with towers for more; nobody is warned that some are not judged.

    That the few valid rows do not judge all of its own cells is told, as without auxiliary tasks.
    """
    (row,) = read_rows("movielens-1m", ["shared_bottom"], TRAIN.model_copy(update={"patience": 1}))
    row = dataclasses.replace(row, train=row.train.model_copy(update={"epochs": 1}))
    gc.collect()  # what earlier tests did not close warns now, not in the middle of a fit
    with pytest.warns(UserWarning, match="cells with one class") as usual:
        alone = fitted(row, 1, prepared)
    with pytest.warns(UserWarning, match="cells with one class") as told:
        beside = fitted(dataclasses.replace(row, auxiliary=("above_1", "above_2")), 1, prepared)
    assert [str(warning.message) for warning in told] == [str(warning.message) for warning in usual]
    assert beside.valid.shape == alone.valid.shape
    assert beside.test.shape == alone.test.shape
    assert beside.parameters > alone.parameters


def test_the_command_fits_a_row_with_neighbours(archive: Path, tmp_path: Path) -> None:
    """A row with neighbours goes the same way, and its figures say so."""
    out = tmp_path / "table.json"
    accuracy(dataset="movielens-1m", path=archive, models="mmoe (neighbours)", seeds=1, processes=1, json=out)
    found = json.loads(out.read_text())["models"]["mmoe (neighbours)"]
    assert found["row"]["neighbours"] is True
    assert found["parameters"] > 0


@pytest.mark.filterwarnings("ignore:cells with one class")  # the archive is small
def test_members_have_seeds_of_their_own_and_are_averaged(prepared: Path, tmp_path: Path) -> None:
    """Of two members the second seed is 3 and 4; their mean logits are judged; fitted once, they are found again."""
    (row,) = read_rows("movielens-1m", ["shared_mlp"], TRAIN.model_copy(update={"patience": 1}))
    row = dataclasses.replace(row, members=2, train=row.train.model_copy(update={"epochs": 1}))
    found = run(row, 2, prepared, tmp_path / "members")
    kept = sorted((tmp_path / "members").iterdir())
    assert [path.stem.split("-")[1] for path in kept] == ["3", "4"]
    third, fourth = fitted(row, 3, prepared), fitted(row, 4, prepared)
    test = open_tensors(prepared / TENSORS / "test")
    inside, clicks = test.scenario == 1, test.labels[:, 0]
    pairs = [(a, b) for a in np.flatnonzero(inside & (clicks == 1)) for b in np.flatnonzero(inside & (clicks == 0))]
    logits = third.test[:, 0] + fourth.test[:, 0]
    ranked = np.mean([(logits[a] > logits[b]) + 0.5 * (logits[a] == logits[b]) for a, b in pairs])
    assert found.auc[1][0] == pytest.approx(ranked, abs=1e-6)
    assert found.parameters == third.parameters + fourth.parameters
    written = [path.stat().st_mtime_ns for path in kept]
    assert run(row, 2, prepared, tmp_path / "members") == found
    assert [path.stat().st_mtime_ns for path in kept] == written


def test_the_command_fits_and_reports(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed of a small model on a small archive: a finite AUC in every cell that has one, printed and written."""
    out = tmp_path / "table.json"
    accuracy(dataset="movielens-1m", path=archive, models="shared_mlp", seeds=1, processes=1, json=out)
    found = json.loads(out.read_text())["models"]["shared_mlp"]
    assert all(0 <= cell["mean"] <= 1 for cell in found["cells"].values())
    assert found["samples_per_second"] > 0
    assert "shared_mlp" in capsys.readouterr().out
