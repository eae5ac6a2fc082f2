"""A training that begins in a model: what is taken over, what is mapped, what is refused."""

import dataclasses
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ModelError, ParameterError, TrainingError
from features.encoding.encoder import Encoder
from features.encoding.target_scale import TargetScale
from features.encoding.tensors import Tensors, open_tensors
from features.schema import Column, DType, Kind, Role, Schema, Task, read_schema, to_json
from models.model_folder import read_model
from models.train import train
from models.training.warm_start import (
    check_unseen,
    days_of,
    moved_scales,
    start_folder,
    start_key,
)
from tests.support import world
from tests.support.examples import examples
from tests.support.training import logits_of
from tests.support.warm_start import started, today_of, use, with_number, write_yesterday

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]
STILL: dict[str, Any] = {"learning_rate": 0.0, "weight_decay": 0.0, "embedding_weight_decay": 0.0}


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters with which a training changes no weight."""
    use(monkeypatch, **STILL)


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The arguments of a training of the tiny world, and the `model` that it made."""
    return write_yesterday(tmp_path_factory.mktemp("yesterday"))


def table(encoder: Encoder, weights: torch.Tensor, name: str) -> torch.Tensor:
    """The embedding table of a vocabulary among the rows of all."""
    rows = encoder.layout.table_rows
    index = list(encoder.vocabularies).index(name)
    return weights[sum(rows[:index]) : sum(rows[: index + 1])]


@pytest.mark.usefixtures("still")
def test_the_same_data_at_learning_rate_0_give_the_same_logits_to_the_bit(
    yesterday: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing is learned, so that the new model is the old one: every weight, and the logits of every row."""
    arguments = {name: path for name, path in yesterday.items() if name != "model"}
    train(model="hinet", out=tmp_path / "out", warm_start=yesterday["model"], **arguments)
    old, new = read_model(yesterday["model"]), read_model(tmp_path / "out")
    mapped = vars(open_tensors(yesterday["tensors"] / "valid"))
    rows = Tensors(**{name: column if column is None else np.array(column) for name, column in mapped.items()})
    assert np.array_equal(logits_of(old.network, rows), logits_of(new.network, rows))
    assert new.tag == old.tag
    assert new.summary["epochs"] == 1  # warm_epochs, not epochs
    assert new.summary["warm_start"]["tag"] == old.tag
    ids = new.summary["warm_start"]["ids"]
    assert {count for one in ids.values() for what, count in one.items() if what != "kept"} == {0}


def test_a_warm_start_is_reproducible_to_the_bit(
    yesterday: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainings from the same model write the same bytes, and not those of a training from new weights."""
    use(monkeypatch)
    arguments = {name: path for name, path in yesterday.items() if name != "model"}
    for name, start in (("one", yesterday["model"]), ("two", yesterday["model"]), ("cold", None)):
        train(model="hinet", out=tmp_path / name, warm_start=start, **arguments)
    one, two, cold = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two", "cold")
    )
    assert one == two
    assert one["weights.safetensors"] != cold["weights.safetensors"]
    assert "warm_start" not in json.loads(cold["model.json"])["summary"]


@pytest.mark.parametrize("days", [1, 2, None])
def test_the_rows_of_the_newest_days_are_learned(
    yesterday: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    days: int | None,
) -> None:
    """`warm_window_days` is in place of `window_days`, which is that of a training from new weights; null: all rows."""
    arguments = {name: path for name, path in yesterday.items() if name != "model"}
    use(monkeypatch, window_days=4, warm_window_days=days)
    train(model="hinet", out=tmp_path / "out", warm_start=yesterday["model"], **arguments)
    times = pd.read_parquet(yesterday["training"] / "train.parquet")["timestamp"]
    if days is None:
        assert "the newest days" not in capsys.readouterr().out
    else:
        newest = (times.max() - times < pd.Timedelta(days=days)).sum()
        assert f"the newest days: {newest:,} of {len(times):,} training rows" in capsys.readouterr().out


@given(data=st.data())
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_known_ids_keep_their_embedding_and_new_ones_begin_as_the_unknown_row(
    yesterday: dict[str, Path], data: st.DataObject
) -> None:
    """Vocabularies are permuted, grown and shrunk: each value is looked up by itself in the old table."""
    old = read_model(yesterday["model"])
    vocabularies = {}
    for name, values in old.encoder.vocabularies.items():
        fresh = [f"new {n}" if isinstance(values[0], str) else 1000 + n for n in range(4)]
        vocabularies[name] = data.draw(st.lists(st.sampled_from([*values, *fresh]), unique=True), label=name)
    encoder = dataclasses.replace(old.encoder, vocabularies=vocabularies)
    network, said = started(yesterday["model"], today_of(yesterday, encoder=encoder))
    before, after = old.network.embedding.weight, network.embedding.weight
    for name, values in vocabularies.items():
        then, now = table(old.encoder, before, name), table(encoder, after, name)
        assert torch.equal(now[0], then[0])
        known = old.encoder.vocabularies[name]
        for row, value in enumerate(values, start=1):
            assert torch.equal(now[row], then[1 + known.index(value) if value in known else 0])
        kept = len(set(values) & set(known))
        assert said["ids"][name] == {"kept": kept, "new": len(values) - kept, "dropped": len(known) - kept}
    others = {name: weights for name, weights in network.state_dict().items() if name != "embedding.weight"}
    assert all(torch.equal(weights, old.network.state_dict()[name]) for name, weights in others.items())


def test_rows_of_known_ids_have_the_logits_of_yesterday(yesterday: dict[str, Path]) -> None:
    """Encoded by today's vocabularies, a row that yesterday knew whole is scored as it was, to the bit."""
    old = read_model(yesterday["model"])
    grown = {
        name: [*reversed(values), *([10**6] if isinstance(values[0], int) else ["zz"])]
        for name, values in old.encoder.vocabularies.items()
    }
    encoder = dataclasses.replace(old.encoder, vocabularies=grown)
    network, _ = started(yesterday["model"], today_of(yesterday, encoder=encoder))
    rows = pa.Table.from_pandas(world.tables(rows=200)["events"], preserve_index=False)
    assert np.array_equal(logits_of(old.network, old.encoder.encode(rows)), logits_of(network, encoder.encode(rows)))


def test_scales_that_moved_are_named() -> None:
    """The weights are left: the summary says by how many deviations the mean moved, and the factor of the deviation."""
    number = Column(name="price", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC)
    before, after = (
        Encoder("scenario", ("feed",), (number,), {}, {"price": scale}, {"image": vector}, {"seconds": target})
        for scale, vector, target in (
            ((1.0, 2.0), ([0.0, 0.0], [1.0, 1.0]), TargetScale(10.0, 2.0, 0.0)),
            ((2.0, 3.0), ([0.0, 0.5], [1.0, 1.0]), TargetScale(10.1, 2.1, 0.0)),
        )
    )
    assert moved_scales(before, after) == {"image": [0.5, 1.0], "price": [0.5, 1.5]}
    assert moved_scales(before, before) == {}


def changed_schema(schema: Schema, what: str) -> Schema:
    """The schema with another name, task or scenario."""
    if what == "data set":
        return dataclasses.replace(schema, name="other")
    if what == "scenario":
        return dataclasses.replace(schema, scenarios=("feed", "search", "offers"))
    return dataclasses.replace(schema, tasks=(Task(name="click"), Task(name="order")))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("data set", "the data set was tiny and is other"),
        ("scenario", "scenario channel was removed; scenario offers was added"),
        ("task", "task order was changed"),
    ],
)
def test_other_tasks_and_scenarios_are_refused(yesterday: dict[str, Path], what: str, reason: str) -> None:
    """The message names what was added, removed or changed, whatever is done with columns."""
    schema = changed_schema(read_schema(yesterday["schema"]), what)
    with pytest.raises(TrainingError, match=rf"does not fit the data: {reason}\. Expected the data set, tasks"):
        started(yesterday["model"], today_of(yesterday, schema=schema, columns="map"))


def test_other_columns_are_refused_with_their_names(yesterday: dict[str, Path]) -> None:
    """The message names the columns, and the parameter that maps them."""
    encoder = with_number(Encoder.read(yesterday["encoder"]))
    with pytest.raises(TrainingError, match=r"others \(added: brand, price\): .* train.warm_start_columns to map"):
        started(yesterday["model"], today_of(yesterday, encoder=encoder))


def test_another_network_or_size_is_refused(yesterday: dict[str, Path]) -> None:
    """The message says which network the folder holds, or which size is another."""
    with pytest.raises(TrainingError, match="holds a hinet, but a mmoe is trained: expected a model of the same net"):
        started(yesterday["model"], today_of(yesterday, "mmoe"))
    today = today_of(yesterday)
    today.arguments["config"]["sub_experts"] = 5
    with pytest.raises(
        TrainingError, match=r"has sub_experts 3, but train\.hinet\.sub_experts is 5: expected the same"
    ):
        started(yesterday["model"], today)


def test_a_damaged_or_missing_model_is_refused(yesterday: dict[str, Path], tmp_path: Path) -> None:
    """No model folder, and one whose weights were changed."""
    with pytest.raises(ModelError, match="is no model folder"):
        started(tmp_path, today_of(yesterday))
    shutil.copytree(yesterday["model"], tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"0")
    with pytest.raises(ModelError, match="expected sha256"):
        started(tmp_path / "model", today_of(yesterday))


def test_a_model_that_knows_validation_rows_is_refused(
    yesterday: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was put back, or rows are split at random: the epoch would be chosen by rows that it has learned."""
    use(monkeypatch)
    start, _ = days_of(yesterday["training"] / "valid.parquet", read_schema(yesterday["schema"]))
    check_unseen(yesterday["model"], start)
    refused = rf"until {start}, but the validation rows begin on .* join.split to time"
    with pytest.raises(TrainingError, match=refused):
        check_unseen(yesterday["model"], start - datetime.timedelta(days=1))
    arguments = {name: path for name, path in yesterday.items() if name not in ("model", "training")}
    with pytest.raises(ParameterError, match=r"needs --training, the folder of valid\.parquet"):
        train(model="hinet", out=tmp_path / "out", warm_start=yesterday["model"], **arguments)


def test_a_model_of_a_last_pass_knows_the_validation_rows_too(
    yesterday: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With train.final_learning_rate its last day is that of the validation rows, which the summary says."""
    use(monkeypatch, final_learning_rate=0.001)
    arguments = {name: path for name, path in yesterday.items() if name != "model"}
    train(model="hinet", out=tmp_path / "out", **arguments)
    _, last = days_of(yesterday["training"] / "valid.parquet", read_schema(yesterday["schema"]))
    assert read_model(tmp_path / "out").summary["last_day"] == last.isoformat()
    check_unseen(tmp_path / "out", last)
    with pytest.raises(TrainingError, match=f"has learned from rows until {last}"):
        check_unseen(tmp_path / "out", last - datetime.timedelta(days=1))


def test_a_folder_with_the_file_from_nothing_stands_for_no_model(yesterday: dict[str, Path], tmp_path: Path) -> None:
    """It begins with new weights; beside a model the file is refused."""
    (tmp_path / "from_nothing").touch()
    assert start_folder(tmp_path) is None
    assert start_folder(None) is None
    assert start_folder(yesterday["model"]) == yesterday["model"]
    (tmp_path / "model.json").touch()
    with pytest.raises(TrainingError, match="holds a model and the file from_nothing: which of them is meant"):
        start_folder(tmp_path)


def test_the_checkpoint_of_a_run_is_of_the_model_in_which_it_began(yesterday: dict[str, Path], tmp_path: Path) -> None:
    """Another model in the same folder is another run."""
    shutil.copytree(yesterday["model"], tmp_path / "model")
    before, path = start_key(tmp_path / "model"), tmp_path / "model" / "model.json"
    path.write_text(path.read_text().replace(before["warm_start"]["weights.safetensors"], "0" * 64))
    assert start_key(tmp_path / "model") != before
    assert start_key(None) == {}


def test_a_schema_written_again_is_the_same(yesterday: dict[str, Path]) -> None:
    """Descriptions and bounds may change: the weights do not depend on them."""
    schema = read_schema(yesterday["schema"])
    described = dataclasses.replace(schema, tasks=tuple(dataclasses.replace(t, desc="new") for t in schema.tasks))
    assert to_json(described) != to_json(schema)
    started(yesterday["model"], today_of(yesterday, schema=described))
