"""The loop that fits a network: what it learns, what it keeps, what it repeats, what it refuses."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.errors import TrainingError
from features.encoding.tensors import Tensors
from models.evaluation.metrics import mean_auc
from models.networks.hinet import HiNet
from models.networks.layers import FeatureEmbedding
from models.peers.baselines import SharedBottom
from models.training.batches import Rows
from models.training.loop import Fitted, choose, denormals_flushed, fit, repeatable
from models.training.loss import weighted_loss
from models.training.optim import Recipe, optimizers
from models.training.train_state import Average

SCENARIOS, TASKS = ("here", "there"), ("click", "like")
INPUTS: dict[str, Any] = {
    "table_rows": (5, 3),
    "categorical_tables": (0, 1),
    "bag_tables": (0,),
    "bag_lengths": (2,),
    "numeric": 1,
    "scenarios": 2,
    "tasks": 2,
    "embedding_width": 4,
}
RECIPE = Recipe(
    seed=1,
    epochs=3,
    patience=3,
    batch_size=128,
    learning_rate=0.01,
    embedding_weight_decay=0.0,
    weight_decay=0.0,
    average=0.9,
    unknown_share=0.0,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, and torch's settings as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def opposite(rows: int, seed: int) -> Tensors:
    """Two scenarios that want opposite things, and a task for which both want the same.

    Items 1 and 2 are of one kind, 3 and 4 of the other. `here` clicks with 0.8 on the first kind and 0.2 on the
    second, `there` the reverse; both like the first kind with 0.8. No input names the scenario. The best AUC of
    every cell is 0.8 * 0.8 + (0.8 * 0.2 + 0.2 * 0.8) / 2 = 0.80.
    """
    random = np.random.default_rng(seed)
    item, scenario = random.integers(1, 5, rows), random.integers(0, 2, rows)
    first = item <= 2
    chance = np.stack([np.where(first == (scenario == 0), 0.8, 0.2), np.where(first, 0.8, 0.2)], axis=1)
    return Tensors(
        categorical=np.stack([item, random.integers(1, 3, rows)], axis=1).astype("int32"),
        bags=random.integers(-1, 5, (rows, 2)).astype("int32"),
        numeric=random.normal(size=(rows, 1)).astype("float32"),
        scenario=scenario.astype("int32"),
        labels=(random.random((rows, 2)) < chance).astype("float32"),
        event_id=np.arange(rows),
        user=np.arange(rows),
    )


def hinet(seed: int = 1) -> HiNet:
    """A small HiNet for `opposite`."""
    repeatable(seed)
    return HiNet(
        **INPUTS,
        sub_experts=2,
        expert_units=(16, 8),
        task_experts=1,
        shared_experts=1,
        task_expert_units=(8,),
        tower_units=(8,),
        scenario_width=4,
        scenario_heads=False,
    )


def fitted(network: nn.Module, recipe: Recipe = RECIPE, rows: int = 1000, **others: Any) -> Fitted:
    """`network` fitted to `opposite`."""
    train, valid = opposite(rows, 0), opposite(800, 1)
    return fit(network, train, valid, recipe, **{"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu", **others})


def changed(recipe: Recipe = RECIPE, **fields: Any) -> Recipe:
    """The recipe with other values."""
    return Recipe(**{**vars(recipe), **fields})


def with_columns(tensors: Tensors, **columns: np.ndarray) -> Tensors:
    """The rows with other columns."""
    return Tensors(**{**vars(tensors), **columns})


def logits(network: nn.Module, rows: Tensors) -> np.ndarray:
    """What the network says of the rows [N, T]."""
    columns = (rows.categorical, rows.bags, rows.numeric, rows.scenario)
    with torch.no_grad():
        return network.eval()(*(torch.from_numpy(column) for column in columns)).numpy()


def test_hinet_learns_what_a_shared_bottom_cannot_see() -> None:
    """Where scenarios want opposite things HiNet reaches the best AUC 0.80, a network that sees no scenario 0.5."""
    recipe, train, valid = changed(epochs=4, patience=4), opposite(6000, 0), opposite(12_000, 1)
    bottom = SharedBottom(**INPUTS, bottom_units=(16, 8), tower_units=(8,))
    found, blind = (
        fit(network, train, valid, recipe, scenarios=SCENARIOS, tasks=TASKS, device="cpu").best.valid_auc
        for network in (hinet(), bottom)
    )
    assert found == pytest.approx(np.full((2, 2), 0.80), abs=0.02)
    assert blind[:, 0].mean() == pytest.approx(0.5, abs=0.02)
    assert blind[:, 1] == pytest.approx(np.full(2, 0.80), abs=0.02)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_makes_a_run_repeatable_to_the_bit(threads: int) -> None:
    """Two runs with one seed end in the same weights and curves; another seed does not."""
    torch.set_num_threads(threads)
    recipe = changed(unknown_share=0.1, batch_size=500, epochs=2)
    networks = [hinet(seed) for seed in (1, 1, 2)]
    runs = [fitted(network, changed(recipe, seed=s), rows=1500) for network, s in zip(networks, (1, 1, 2), strict=True)]
    first, again, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert [e.train_loss for e in runs[0].epochs] == [e.train_loss for e in runs[1].epochs]


def test_the_loop_is_the_plain_one_to_the_bit() -> None:
    """Shares, clipping and checkpoints change nothing where they are off: weights are those of the loop written out."""
    recipe = changed(average=0.0, unknown_share=0.1, epochs=2, embedding_weight_decay=1e-3)
    network, plain, rows = hinet(), hinet(), Rows(opposite(1000, 0), torch.device("cpu")).resident
    epochs = fitted(network, recipe).epochs
    optimizer = optimizers(plain, recipe)[0]
    for number in range(1, epochs[-1].number + 1):
        order, hidden = (torch.Generator().manual_seed(recipe.seed * 1_000_003 + number) for _ in range(2))
        for batch in torch.randperm(1000, generator=order).split(recipe.batch_size):
            part = rows.pick(batch).hide(recipe.unknown_share, hidden)
            optimizer.zero_grad()
            weighted_loss(plain(*part[:4]), part.labels, part.scenario, torch.ones(2, 2)).backward()
            optimizer.step()
    assert max(epochs, key=lambda epoch: epoch.valid_mean_auc) is epochs[-1]  # the last weights are those kept
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), plain.parameters(), strict=True))


def test_long_gradients_are_cut_and_short_ones_are_not() -> None:
    """With a limit above every gradient the weights are those without one; under a tiny one Adam sees tiny ones."""
    weights = []
    for limit in (0.0, 1e9, 1e-9):
        network = hinet()
        fitted(network, changed(clip_gradient_norm=limit, epochs=1))
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    start = torch.cat([p.detach().flatten() for p in hinet().parameters()])
    assert torch.equal(weights[0], weights[1])
    assert (weights[2] - start).norm() < 0.1 * (weights[0] - start).norm()


def test_the_network_ends_on_its_best_epoch() -> None:
    """The weights that are kept are those whose validation mean is reported, the highest of all epochs."""
    network = hinet()
    result = fitted(network, changed(epochs=6, patience=6, learning_rate=0.05))
    assert result.best.valid_mean_auc == max(epoch.valid_mean_auc for epoch in result.epochs)
    valid = opposite(800, 1)
    assert mean_auc(valid.labels, logits(network, valid), valid.scenario, 2)[0] == result.best.valid_mean_auc


def test_fault_7_the_best_epoch_is_chosen_by_all_cells() -> None:
    """The figure that chooses is the mean over every (scenario, task), not one scenario's."""
    for epoch in fitted(hinet()).epochs:
        assert epoch.valid_auc.shape == (2, 2)
        assert epoch.valid_mean_auc == pytest.approx(epoch.valid_auc.mean())


def test_it_stops_when_patience_is_over() -> None:
    """After `patience` epochs without a better mean no further epoch is run."""
    result = fitted(hinet(), changed(epochs=40, patience=2, learning_rate=0.05))
    assert len(result.epochs) == result.best.number + 2 < 40


def test_fault_7_decay_really_shrinks_the_tables_and_only_them() -> None:
    """Decay on the tables shrinks the tables against the same run without; that of the rest shrinks the rest."""
    norms = {}
    for name, decays in {"none": (0, 0), "tables": (0.1, 0), "rest": (0, 0.1)}.items():
        network = hinet()
        fitted(network, changed(embedding_weight_decay=decays[0], weight_decay=decays[1]))
        rest = sum(p.square().sum().item() for n, p in network.named_parameters() if n != "embedding.weight")
        norms[name] = (network.embedding.weight.square().sum().item(), rest)
    assert norms["tables"][0] < 0.5 * norms["none"][0]
    assert norms["tables"][1] > 0.8 * norms["none"][1]
    assert norms["rest"][1] < 0.5 * norms["none"][1]


def test_adam_is_adam_with_the_decay_in_the_gradient() -> None:
    """One step equals Adam's formula on gradient + decay * weight, with its own decay for tables and rest."""
    network = SharedBottom(**INPUTS, bottom_units=(4,), tower_units=(4,))
    recipe = changed(embedding_weight_decay=0.3, weight_decay=0.1)
    optimizer, before = optimizers(network, recipe)[0], copy.deepcopy(dict(network.named_parameters()))
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        decay = 0.3 if name == "embedding.weight" else 0.1
        gradient = parameter.grad + decay * before[name]
        step = recipe.learning_rate * gradient / (gradient.abs() + 1e-8)  # first step: both moments are unbiased
        torch.testing.assert_close(parameter, before[name] - step)


def test_the_average_is_the_weighted_mean_of_the_steps() -> None:
    """After each update the copy holds sum decay^(t - s) w_s / sum decay^(t - s); with decay 0 it holds the last."""
    for decay in (0.7, 0.0):
        network = nn.Linear(3, 2)
        average, seen = Average(network, decay), []
        for _ in range(5):
            with torch.no_grad():
                network.weight.add_(torch.randn(2, 3))
            average.update()
            seen.append(network.weight.detach().clone())
            share = [decay ** (len(seen) - 1 - s) for s in range(len(seen))]
            expected = sum(w * weight for w, weight in zip(share, seen, strict=True)) / sum(share)
            torch.testing.assert_close(average.network.weight.data, expected)


class Normed(nn.Module):
    """A network with batch norm, as some peers of HiNet have."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(1), nn.Linear(1, 2)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Logits from the number alone."""
        return self.out(self.norm(numeric))


def test_fault_7_batch_norm_is_updated_and_kept() -> None:
    """Running statistics move while training and are part of the weights that are kept."""
    network = Normed()
    fitted(network)
    assert network.norm.num_batches_tracked > 0
    assert network.norm.running_mean.abs().item() > 0


def test_the_unknown_row_is_trained_by_hiding_ids() -> None:
    """With a share of ids hidden, row 0 of each table moves; without, ids that never come stay as drawn."""
    for share, moved in ((0.2, True), (0.0, False)):
        network = hinet()
        before = network.embedding.weight.detach().clone()
        fitted(network, changed(unknown_share=share))
        rows = torch.tensor([5])  # row 0 of the second table: `opposite` has no unknown second id
        assert torch.equal(network.embedding.weight[rows], before[rows]) != moved


def test_weights_of_cells_weigh() -> None:
    """A task of weight 0 is not learned."""
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = fitted(hinet(), changed(epochs=6), rows=3000, cell_weights=weights).epochs[-1].valid_auc
    assert found[:, 0] == pytest.approx(np.full(2, 0.80), abs=0.05)
    assert found[:, 1].mean() < 0.75


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    """Asking for a GPU that is not there is an error, asking for the best there is is not."""
    with pytest.raises(TrainingError, match="torch sees no GPU"):
        choose("cuda")
    assert choose("auto") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_code_runs_on_a_gpu() -> None:
    """On a GPU the same rows in the same order come to the same loss within float tolerance."""
    on_cpu = fitted(hinet(), device="cpu").epochs[-1].train_loss
    assert fitted(hinet(), device="cuda").epochs[-1].train_loss == pytest.approx(on_cpu, rel=1e-3)


def test_tables_are_known_wherever_they_are() -> None:
    """The optimizer's first group holds the embedding tables and nothing else."""
    network = hinet()
    tables, rest = (group["params"] for group in optimizers(network, RECIPE)[0].param_groups)
    assert [table is network.embedding.weight for table in tables] == [True]
    assert isinstance(network.embedding, FeatureEmbedding)
    assert len(tables) + len(rest) == len(list(network.parameters()))


def test_denormal_numbers_are_flushed_inside_and_kept_outside() -> None:
    """Half of the smallest normal number is 0 while it is asked for, and itself before and afterwards."""
    smallest = torch.full((8,), torch.finfo(torch.float32).tiny)
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    assert (smallest / 2 > 0).all()
    with denormals_flushed():
        assert (smallest / 2 == 0).all()
    assert (smallest / 2 > 0).all()
