"""A captured step equals the step; and training in bfloat16, which is used with it on a GPU."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from common.errors import TrainingError
from models.training import guards
from models.training.batches import BatchLoader, TensorBatch
from models.training.cuda_graph import WARMUP_STEPS, CapturedStep, Replay
from models.training.distributed import SINGLE_PROCESS
from models.training.loop import TrainingLoop
from models.training.train_state import TrainState
from tests.support.training import fitted, opposite_rows, recipe_with, small_hinet

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def new_loop() -> TrainingLoop:
    """The loop over `opposite_rows` before its first step."""
    state = TrainState(small_hinet(), recipe_with(batch_size=64), torch.device("cpu"))
    return TrainingLoop(state, torch.ones(2, 2), None, SINGLE_PROCESS)


def one_epoch() -> Iterator[TensorBatch]:
    """The batches of an epoch of 1,000 rows of `opposite_rows`."""
    return BatchLoader(opposite_rows(1000, 0), torch.device("cpu")).shuffled(64, torch.Generator().manual_seed(3))


def test_steps_on_fixed_buffers_are_the_steps() -> None:
    """Full batches go through buffers with fixed addresses, the last smaller one does not: the weights are the same."""
    plain, captured = new_loop(), new_loop()
    step = CapturedStep(captured.step, 64, make_replay=Replay)
    for batch, same in zip(one_epoch(), one_epoch(), strict=True):
        torch.testing.assert_close(step(batch), plain.step(same), rtol=0, atol=0)
    assert step.steps == 1000 // 64 > WARMUP_STEPS
    for one, other in zip(captured.parameters, plain.parameters, strict=True):
        assert torch.equal(one, other)


def test_only_shares_of_a_full_batch_are_replayed() -> None:
    """Of two processes one has 16 rows of a full batch, and 16 of a last one of 31: that step is no replay."""
    loop, batch = new_loop(), next(one_epoch())
    step, rows = CapturedStep(loop.step, 16, 0.5, make_replay=Replay), batch.select(torch.arange(16))
    for share in (0.5, 16 / 31, 0.5):
        step(rows, share)
    assert step.steps == 2


def test_a_capture_without_a_gpu_is_refused() -> None:
    """On a CPU there is nothing to capture: the message says what to set."""
    with pytest.raises(TrainingError, match=r"train\.capture .* on the CPU: set it to false"):
        fitted(small_hinet(), recipe_with(capture=True))


@pytest.mark.parametrize("native", {guards.ONEDNN_BFLOAT16, False})
def test_bfloat16_is_warned_of_where_it_is_emulated(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16 gives the same weights, slowly; the message says what to set."""
    monkeypatch.setattr(guards, "ONEDNN_BFLOAT16", native)
    expected = nullcontext() if native else pytest.warns(UserWarning, match=r"set it to float32")
    with expected:
        guards.check_recipe(recipe_with(precision="bfloat16"), torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:train.precision is bfloat16")
def test_bfloat16_learns_what_float32_learns() -> None:
    """With half the bits the mean AUC is the same within 0.01, by other weights; 0.80 is the best possible."""
    results = {
        name: fitted(small_hinet(), recipe_with(precision=name, epochs=6, patience=6))
        for name in ("float32", "bfloat16")
    }
    aucs = {name: result.best.valid_mean for name, result in results.items()}
    assert aucs["bfloat16"] == pytest.approx(aucs["float32"], abs=0.01)
    assert results["bfloat16"].epochs[0].train_loss != results["float32"].epochs[0].train_loss


@pytest.mark.cuda
@needs_gpu
@pytest.mark.filterwarnings("ignore:train.precision is bfloat16")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_captured_run_on_a_gpu_ends_like_one_without(precision: str) -> None:
    """On a GPU a captured run has the mean AUC of the same run without a capture, and of the run on the CPU."""
    recipe = recipe_with(precision=precision, epochs=6, patience=6)
    means = [
        fitted(small_hinet(), recipe_with(**{**vars(recipe), "capture": capture}), device=device).best.valid_mean
        for capture, device in ((True, "cuda"), (False, "cuda"), (False, "cpu"))
    ]
    assert means[0] == pytest.approx(means[1], abs=0.005)
    assert means[0] == pytest.approx(means[2], abs=0.01)
