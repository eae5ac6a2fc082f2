"""models/training/cuda_graph.py: a recorded step is the step; and training in bfloat16, which goes with it on a GPU."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from common.errors import TrainingError
from models.training import guards
from models.training.batches import Part, Rows
from models.training.cuda_graph import WARM_STEPS, CapturedStep, Replay
from models.training.loop import ALONE, Fitting
from models.training.train_state import Average, State
from tests.models.training.test_loop import changed, fitted, hinet, opposite

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, and torch's settings as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def a_fitting() -> Fitting:
    """The loop over `opposite` before its first step."""
    return Fitting(State(hinet(), changed(batch_size=64), torch.device("cpu")), torch.ones(2, 2), None, ALONE)


def test_steps_on_fixed_buffers_are_the_steps() -> None:
    """Whole batches go through buffers that stay where they are, the last smaller one as always: the same weights."""
    plain, captured = a_fitting(), a_fitting()
    step = CapturedStep(captured.step, 64, record=Replay)
    for part, same in zip(batches(), batches(), strict=True):
        torch.testing.assert_close(step(part), plain.step(same), rtol=0, atol=0)
    assert step.taken == 1000 // 64 > WARM_STEPS
    for one, other in zip(captured.parameters, plain.parameters, strict=True):
        assert torch.equal(one, other)


def batches() -> Iterator[Part]:
    """An epoch of 1,000 rows of `opposite`."""
    return Rows(opposite(1000, 0), torch.device("cpu")).shuffled(64, torch.Generator().manual_seed(3))


def test_an_average_counted_on_the_device_is_the_average() -> None:
    """The steps as a tensor give the mean that the steps as a number give."""
    network = hinet()
    counted, plain = Average(network, 0.9, captured=True), Average(network, 0.9)
    for _ in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        counted.update()
        plain.update()
    for one, other in zip(counted.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_capture_without_a_gpu_is_refused() -> None:
    """On a CPU there is nothing to record: the sentence says what to set."""
    with pytest.raises(TrainingError, match=r"train\.capture .* on the CPU: set it to false"):
        fitted(hinet(), changed(capture=True))


@pytest.mark.parametrize("native", {guards.ONEDNN_BFLOAT16, False})
def test_bfloat16_is_warned_of_where_it_is_imitated(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16 gives the same weights, slowly; the sentence says what to set."""
    monkeypatch.setattr(guards, "ONEDNN_BFLOAT16", native)
    told = nullcontext() if native else pytest.warns(UserWarning, match=r"set it to float32")
    with told:
        guards.check_recipe(changed(precision="bfloat16"), torch.device("cpu"), processes=1)


@pytest.mark.filterwarnings("ignore:train.precision is bfloat16")
def test_bfloat16_learns_what_float32_learns() -> None:
    """The opposite tastes are found at half the digits, by other weights; 0.80 is the best possible."""
    found = {name: fitted(hinet(), changed(precision=name, epochs=6, patience=6)) for name in ("float32", "bfloat16")}
    aucs = {name: result.best.valid_mean_auc for name, result in found.items()}
    assert aucs["bfloat16"] == pytest.approx(aucs["float32"], abs=0.01)
    assert found["bfloat16"].epochs[0].train_loss != found["float32"].epochs[0].train_loss


@needs_gpu
@pytest.mark.filterwarnings("ignore:train.precision is bfloat16")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_replays_what_it_would_do(precision: str) -> None:
    """On a GPU a recorded fit ends where the same fit without a recording ends, and where the CPU's does."""
    recipe = changed(precision=precision, epochs=6, patience=6)
    figures = [
        fitted(hinet(), changed(**{**vars(recipe), "capture": capture}), device=device).best.valid_mean_auc
        for capture, device in ((True, "cuda"), (False, "cuda"), (False, "cpu"))
    ]
    assert figures[0] == pytest.approx(figures[1], abs=0.005)
    assert figures[0] == pytest.approx(figures[2], abs=0.01)
