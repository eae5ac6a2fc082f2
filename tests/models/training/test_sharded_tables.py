"""Tables of which each process holds some of the rows: what comes out is what comes out of one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import TrainingError
from features.encoding.tensors import open_tensors
from models.evaluation.predict import predict
from models.model_folder import read_model
from models.networks.sparse_embeddings import embeddings_of
from models.train import train
from models.training.checkpoint import Checkpoint
from models.training.distributed import SINGLE_PROCESS, Group
from models.training.final_pass import fit_final
from models.training.loop import TrainingLoop, fit
from models.training.sharded_checkpoint import ShardedCheckpoint
from models.training.sharded_tables import gather_tables, shard_tables
from tests.support.gloo import together
from tests.support.training import SCENARIOS, TASKS, fitted, opposite_rows, recipe_with, small_hinet
from tests.support.training_process import SMALL, write_train_params

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")
SHARDED = recipe_with(
    shard_embeddings=True,
    embedding_weight_decay=1e-3,
    unknown_share=0.1,
    rare_id_rows=5.0,
    clip_gradient_norm=0.5,
    final_learning_rate=0.001,
)


def weights_after(group: Group, checkpoint: Checkpoint | None = None) -> tuple[Tensor, Any]:
    """All weights after a fit and its last pass, and the validation means and losses of the fit."""
    network, run = small_hinet(), {"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu", "group": group}
    rows, valid = opposite_rows(1000, 0), opposite_rows(600, 1)
    result = fit(network, rows, valid, SHARDED, checkpoint=checkpoint, **run)
    fit_final(result, rows, valid, SHARDED, **run)
    weights = torch.cat([weights.flatten() for weights in network.state_dict().values()])
    return weights, [(epoch.valid_mean, epoch.train_loss) for epoch in result.epochs]


@pytest.mark.parametrize("size", [2, 3])
def test_a_fit_with_divided_tables_is_that_of_one_process(tmp_path: Path, size: int) -> None:
    """The main process ends with whole tables, equal within rounding; the others never hold more than their rows."""
    expected, epochs = weights_after(SINGLE_PROCESS)
    (weights, own), *others = together(size, tmp_path, weights_after)
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)
    for one, other in zip(own, epochs, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert all(len(rows) < len(expected) for rows, _ in others)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_row_of_a_table_is_in_one_process(tmp_path: Path, size: int) -> None:
    """Eight rows in two, three or five processes: together they are the table, and so is what is gathered."""
    expected = embeddings_of(small_hinet())[0].detach()

    def rows(group: Group) -> tuple[Tensor, Tensor]:
        network = small_hinet()
        shard_tables(network, group, CPU)
        own = embeddings_of(network)[0].detach().clone()
        gather_tables(network, group)
        return own, embeddings_of(network)[0].detach()

    results = together(size, tmp_path, rows)
    assert torch.equal(torch.cat([own for own, _ in results]), expected)
    assert torch.equal(results[0][1], expected)


@pytest.mark.process
@pytest.mark.slow
def test_the_stage_writes_the_model_folder_of_one_process(stage_arguments: dict[str, Path], tmp_path: Path) -> None:
    """A model of divided tables is read and scores rows as that of one process does."""
    write_train_params(tmp_path, {**SMALL, "epochs": 3, "shard_embeddings": True})
    train(model="hinet", out=tmp_path / "one", **stage_arguments)
    write_train_params(tmp_path, {**SMALL, "epochs": 3, "shard_embeddings": True, "processes": 2})
    train(model="hinet", out=tmp_path / "two", **stage_arguments)
    rows = open_tensors(stage_arguments["tensors"] / "valid")
    one, two = (predict(read_model(tmp_path / name).network, rows, name) for name in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-3)
    assert not (stage_arguments["checkpoints"] / "hinet").exists()


class StoppedError(Exception):
    """Stands for kill -9."""


def stopped_at(step: int, folder: Path) -> Callable[[Group], None]:
    """A run that writes a checkpoint after every step, and stops before this one."""

    def run(group: Group) -> None:
        real, allowed = TrainingLoop.step, iter(range(1, step))

        def counted(self: TrainingLoop, *share: Any) -> Tensor:
            if next(allowed, None) is None:
                raise StoppedError
            return real(self, *share)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(TrainingLoop, "step", counted)
            with pytest.raises(StoppedError):
                weights_after(group, ShardedCheckpoint(folder, "key", 0))

    return run


def runs(size: int, folder: Path, run: Callable[[Group], Any]) -> list[Any]:
    """What so many processes return; `folder` is one that does not exist."""
    folder.mkdir()
    return [run(SINGLE_PROCESS)] if size == 1 else together(size, folder, run)


@pytest.mark.parametrize(("writers", "readers"), [(2, 1), (1, 2), pytest.param(3, 2, marks=pytest.mark.slow)])
def test_a_checkpoint_is_read_by_any_number_of_processes(tmp_path: Path, writers: int, readers: int) -> None:
    """Stopped in the first and in the second epoch, it goes on, and ends as a run that was not stopped."""
    expected, epochs = weights_after(SINGLE_PROCESS)
    runs(writers, tmp_path / "first", stopped_at(5, tmp_path))
    runs(readers, tmp_path / "second", stopped_at(9, tmp_path))
    results = runs(readers, tmp_path / "last", lambda g: weights_after(g, ShardedCheckpoint(tmp_path, "key", 1000)))
    torch.testing.assert_close(results[0][0], expected, rtol=1e-3, atol=1e-4)
    assert results[0][1][0] == pytest.approx(epochs[0], abs=1e-4)
    assert len(list((tmp_path / "key").iterdir())) == 1


def test_the_same_processes_go_on_to_the_same_bits(tmp_path: Path) -> None:
    """With and without a stop two processes end with the same weights."""
    (tmp_path / "plain").mkdir()
    expected = together(2, tmp_path / "plain", weights_after)[0][0]
    runs(2, tmp_path / "first", stopped_at(5, tmp_path))
    last = runs(2, tmp_path / "last", lambda g: weights_after(g, ShardedCheckpoint(tmp_path, "key", 1000)))
    assert torch.equal(last[0][0], expected)


def test_a_checkpoint_without_its_last_file_is_none(tmp_path: Path) -> None:
    """The newest folder is half written: the one before it is read; damaged ones are warned of."""
    checkpoint = ShardedCheckpoint(tmp_path, "key", 0)
    assert checkpoint.read() is None
    checkpoint.write({"weights": torch.arange(5.0), "none": torch.empty(0, 3)})
    (tmp_path / "key" / "2").mkdir()
    (tmp_path / "key" / "2" / "__0_0.distcp").write_bytes(b"half")
    assert checkpoint.read()["weights"].tolist() == [0, 1, 2, 3, 4]
    checkpoint.write({"weights": torch.arange(3.0), "none": torch.empty(0, 3)})
    assert checkpoint.read()["weights"].tolist() == [0, 1, 2]
    for file in (tmp_path / "key").glob("*/*.distcp"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="training starts from the beginning"):
        assert checkpoint.read() is None


@pytest.mark.parametrize("other", ["sparse_embeddings", "capture"])
def test_what_excludes_divided_tables_is_named(other: str) -> None:
    """The message says which two parameters do not go together."""
    with pytest.raises(TrainingError, match=rf"shard_embeddings excludes train\.{other}|capture captures"):
        fitted(small_hinet(), recipe_with(shard_embeddings=True, **{other: True}))
