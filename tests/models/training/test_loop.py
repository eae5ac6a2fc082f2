"""The training loop: what a network learns, which epoch it keeps, and that a run is repeatable to the bit."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.evaluation.metrics import mean_auc
from models.networks.shared_bottom import SharedBottom, SharedBottomConfig
from models.training.batches import BatchLoader, Draws
from models.training.loop import fit
from models.training.loss import LossTerms, weighted_loss
from models.training.optim import optimizers
from tests.support.training import (
    DATA,
    SCENARIOS,
    TASKS,
    fitted,
    logits_of,
    opposite_rows,
    recipe_with,
    small_hinet,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]


def test_hinet_learns_opposite_scenarios_and_a_shared_bottom_does_not() -> None:
    """Where scenarios have opposite labels HiNet reaches the best AUC 0.80, a network that sees no scenario 0.5."""
    recipe, train, valid = recipe_with(epochs=4, patience=4), opposite_rows(6000, 0), opposite_rows(12_000, 1)
    bottom = SharedBottom(DATA, SharedBottomConfig(embedding_width=4, bottom_units=(16, 8), tower_units=(8,)))
    by_hinet, by_bottom = (
        fit(network, train, valid, recipe, scenarios=SCENARIOS, tasks=TASKS, device="cpu").best.valid_metrics
        for network in (small_hinet(), bottom)
    )
    assert by_hinet == pytest.approx(np.full((2, 2), 0.80), abs=0.02)
    assert by_bottom[:, 0].mean() == pytest.approx(0.5, abs=0.02)
    assert by_bottom[:, 1] == pytest.approx(np.full(2, 0.80), abs=0.02)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_makes_a_run_repeatable_to_the_bit(threads: int) -> None:
    """Two runs with one seed end in the same weights and curves; another seed does not."""
    torch.set_num_threads(threads)
    recipe = recipe_with(unknown_share=0.1, batch_size=500, epochs=2)
    seeds = (1, 1, 2)
    networks = [small_hinet(seed) for seed in seeds]
    runs = [fitted(network, recipe_with(recipe, seed=s), rows=1500) for network, s in zip(networks, seeds, strict=True)]
    first, again, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert [e.train_loss for e in runs[0].epochs] == [e.train_loss for e in runs[1].epochs]


def test_the_loop_equals_a_plain_loop_to_the_bit() -> None:
    """Shards, clipping and checkpoints change nothing where they are off: the weights are those of a plain loop."""
    recipe = recipe_with(average=0.0, unknown_share=0.1, epochs=2, embedding_weight_decay=1e-3)
    network, plain = small_hinet(), small_hinet()
    rows = BatchLoader(opposite_rows(1000, 0), torch.device("cpu")).resident
    epochs = fitted(network, recipe).epochs
    optimizer = optimizers(plain, recipe)[0]
    for number in range(1, epochs[-1].number + 1):
        order, mask = (torch.Generator().manual_seed(recipe.seed * 1_000_003 + number) for _ in range(2))
        for indices in torch.randperm(1000, generator=order).split(recipe.batch_size):
            batch = rows.select(indices).mask_ids(recipe.unknown_share, Draws(mask))
            optimizer.zero_grad()
            weighted_loss(plain(*batch[:4]), batch.labels, batch.scenario, torch.ones(2, 2)).backward()
            optimizer.step()
    assert max(epochs, key=lambda epoch: epoch.valid_mean) is epochs[-1]  # the last weights are those kept
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), plain.parameters(), strict=True))


def test_gradients_above_the_norm_are_clipped_and_others_are_not() -> None:
    """With a limit above every gradient the weights are those without one; with a tiny one they barely change."""
    weights = []
    for limit in (0.0, 1e9, 1e-9):
        network = small_hinet()
        fitted(network, recipe_with(clip_gradient_norm=limit, epochs=1))
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    start = torch.cat([p.detach().flatten() for p in small_hinet().parameters()])
    assert torch.equal(weights[0], weights[1])
    assert (weights[2] - start).norm() < 0.1 * (weights[0] - start).norm()


def test_the_network_ends_on_its_best_epoch() -> None:
    """The weights that are kept are those whose validation mean is reported, the highest of all epochs."""
    network = small_hinet()
    result = fitted(network, recipe_with(epochs=6, patience=6, learning_rate=0.05))
    assert result.best.valid_mean == max(epoch.valid_mean for epoch in result.epochs)
    valid = opposite_rows(800, 1)
    assert mean_auc(valid.labels, logits_of(network, valid), valid.scenario, 2)[0] == result.best.valid_mean


def test_fault_7_the_best_epoch_is_chosen_by_all_cells() -> None:
    """The metric that chooses is the mean over every (scenario, task), not one scenario's."""
    for epoch in fitted(small_hinet()).epochs:
        assert epoch.valid_metrics.shape == (2, 2)
        assert epoch.valid_mean == pytest.approx(epoch.valid_metrics.mean())


def test_it_stops_when_patience_is_over() -> None:
    """After `patience` epochs without a better mean no further epoch is run."""
    result = fitted(small_hinet(), recipe_with(epochs=40, patience=2, learning_rate=0.05))
    assert len(result.epochs) == result.best.number + 2 < 40


def test_fault_7_decay_of_the_embeddings_shrinks_them_and_only_them() -> None:
    """Decay of the embeddings shrinks them against the same run without; that of the rest shrinks the rest."""
    norms = {}
    for name, decays in {"none": (0, 0), "embeddings": (0.1, 0), "rest": (0, 0.1)}.items():
        network = small_hinet()
        fitted(network, recipe_with(embedding_weight_decay=decays[0], weight_decay=decays[1]))
        rest = sum(p.square().sum().item() for n, p in network.named_parameters() if n != "embedding.weight")
        norms[name] = (network.embedding.weight.square().sum().item(), rest)
    assert norms["embeddings"][0] < 0.5 * norms["none"][0]
    assert norms["embeddings"][1] > 0.8 * norms["none"][1]
    assert norms["rest"][1] < 0.5 * norms["none"][1]


class Normed(nn.Module):
    """A network with batch normalisation, as some peers of HiNet have."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(1), nn.Linear(1, 2)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Logits from the number alone."""
        return self.out(self.norm(numeric))


def test_fault_7_batch_norm_is_updated_and_kept() -> None:
    """Running statistics change in training and are part of the weights that are kept."""
    network = Normed()
    fitted(network)
    assert network.norm.num_batches_tracked > 0
    assert network.norm.running_mean.abs().item() > 0


def test_the_unknown_row_is_trained_by_masked_ids() -> None:
    """With a share of ids masked, row 0 of each embedding changes; without, ids that never occur stay as drawn."""
    for share, changes in ((0.2, True), (0.0, False)):
        network = small_hinet()
        before = network.embedding.weight.detach().clone()
        fitted(network, recipe_with(unknown_share=share))
        rows = torch.tensor([5])  # row 0 of the second embedding: `opposite_rows` has no unknown second id
        assert torch.equal(network.embedding.weight[rows], before[rows]) != changes


def test_a_cell_of_weight_0_is_not_learned() -> None:
    """A task of weight 0 stays below an AUC of 0.75, and the other one is learned."""
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    result = (
        fitted(small_hinet(), recipe_with(epochs=6), rows=3000, terms=LossTerms(cell_weights=weights))
        .epochs[-1]
        .valid_metrics
    )
    assert result[:, 0] == pytest.approx(np.full(2, 0.80), abs=0.05)
    assert result[:, 1].mean() < 0.75


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_code_runs_on_a_gpu() -> None:
    """On a GPU the same rows in the same order have the same loss within float tolerance."""
    on_cpu = fitted(small_hinet(), device="cpu").epochs[-1].train_loss
    assert fitted(small_hinet(), device="cuda").epochs[-1].train_loss == pytest.approx(on_cpu, rel=1e-3)
