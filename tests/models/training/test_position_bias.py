"""The bias of positions: learned beside any network, left out in scoring, so that the network learns what remains."""

import dataclasses
import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from features.encoding.positions import EXACT, NO_POSITION, POSITIONS, position_index
from features.encoding.tensors import Tensors
from models.networks.data_spec import DataSpec
from models.networks.shared_bottom import SharedBottom, SharedBottomConfig
from models.peers.shared_mlp import SharedMLP, SharedMLPConfig
from models.training import position_bias
from models.training.batches import Draws
from models.training.checkpoint import Checkpoint
from models.training.device import make_deterministic
from models.training.loop import fit
from models.training.position_bias import DROPPED, PositionBias, WithPositionBias, drop_positions
from tests.support.training import RECIPE, logits_of, opposite_rows, recipe_with, small_hinet, with_columns

pytestmark = pytest.mark.unit

ITEMS, RANKS = 20, 10
RELEVANCE = np.linspace(-2, 1, ITEMS)  # the true logit of an item at an average position
EFFECT = -1.2 * (np.log(np.arange(1, RANKS + 1)) - np.log(np.arange(1, RANKS + 1)).mean())
DATA = DataSpec(
    table_rows=(ITEMS,),
    categorical_tables=(0,),
    bag_tables=(),
    bag_lengths=(),
    numeric=0,
    scenarios=1,
    task_outputs=(1,),
)


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(position_bias).failed == 0


def test_the_first_positions_have_an_index_each() -> None:
    """0 to 31 themselves, then one for each doubling, to the largest integer; a missing one has none."""
    known = position_index(np.array([0, 1, 31, 32, 63, 64, 2**40, 2**63 - 1]))
    assert known.tolist() == [0, 1, 31, EXACT, EXACT, EXACT + 1, EXACT + 35, POSITIONS - 1]
    assert position_index(np.array([np.nan, 3.0])).tolist() == [NO_POSITION, 3]


def shown(rows: int, seed: int) -> Tensors:
    """Impressions of items at positions: the least relevant ones are on top, by and large, which is clicked more often.

    The best guess of a click by the item alone takes the top items for better than they are.
    """
    random = np.random.default_rng(seed)
    item = random.integers(0, ITEMS, rows)
    place = np.clip(np.round(item / ITEMS * RANKS + random.normal(size=rows) * 1.5), 0, RANKS - 1).astype(int)
    chance = 1 / (1 + np.exp(-(RELEVANCE[item] + EFFECT[place])))
    return Tensors(
        categorical=item[:, None].astype("int32"),
        bags=np.empty((rows, 0), np.int32),
        numeric=np.empty((rows, 0), np.float32),
        scenario=np.zeros(rows, np.int32),
        labels=(random.random((rows, 1)) < chance[:, None]).astype("float32"),
        event_id=np.arange(rows),
        user=np.arange(rows),
        position=(1 + place).astype(np.int32),
    )


def scores_of_items(train: Tensors, valid: Tensors, network: str) -> NDArray[np.float64]:
    """The logit of each item by a network that is trained on the rows."""
    make_deterministic(3)
    made: torch.nn.Module = SharedMLP(DATA, SharedMLPConfig(embedding_width=4, units=(8,)))
    if network == "shared_bottom":
        made = SharedBottom(DATA, SharedBottomConfig(embedding_width=4, bottom_units=(8,), tower_units=(4,)))
    recipe = recipe_with(RECIPE, epochs=4, patience=4, batch_size=256, learning_rate=0.02)
    fit(made, train, valid, recipe, scenarios=("all",), tasks=("click",), device="cpu")
    ids, none = np.arange(ITEMS, dtype=np.int32), np.empty((ITEMS, 0), np.int32)
    every = with_columns(
        valid, categorical=ids[:, None], bags=none, numeric=none.astype(np.float32), scenario=np.zeros_like(ids)
    )
    return logits_of(made, every)[:, 0].astype(np.float64)


@pytest.mark.parametrize("network", ["shared_mlp", "shared_bottom"])
def test_with_positions_the_network_comes_near_the_unbiased_truth(network: str) -> None:
    """Without them the order of the items is that of their places; with them that of their relevance, at its level."""
    train, valid = shown(20_000, 0), shown(4000, 1)
    blind = [dataclasses.replace(rows, position=None) for rows in (train, valid)]
    debiased, biased = scores_of_items(train, valid, network), scores_of_items(*blind, network)
    assert np.corrcoef(debiased, RELEVANCE)[0, 1] > 0.95
    assert np.corrcoef(biased, RELEVANCE)[0, 1] < 0.75
    assert np.abs(debiased - RELEVANCE).mean() < 0.7 * np.abs(biased - RELEVANCE).mean()


def test_the_bias_is_of_all_scenarios_and_of_each() -> None:
    """The sum of both for the row's scenario and position; 0 without a position; nothing is added in scoring."""
    bias = PositionBias(scenarios=2, outputs=3)
    with torch.no_grad():
        bias.shared.normal_()
        bias.own.normal_()
    logits = bias(torch.tensor([1, 0, 1]), torch.tensor([4, 89, NO_POSITION]))
    expected = [bias.shared[4] + bias.own[POSITIONS + 4], bias.shared[89] + bias.own[89], torch.zeros(3)]
    torch.testing.assert_close(logits, torch.stack(expected))
    network = small_hinet()
    rows = opposite_rows(5, 0)
    inputs = [torch.from_numpy(part) for part in (rows.categorical, rows.bags, rows.numeric, rows.scenario)]
    wrapped = WithPositionBias(network, scenarios=2, outputs=2)
    with torch.no_grad():
        wrapped.bias.shared.fill_(3.0)
        torch.testing.assert_close(wrapped(*inputs), network(*inputs))
        torch.testing.assert_close(wrapped(*inputs, torch.ones(5).int()), network(*inputs) + 3)


def test_positions_are_dropped_at_random() -> None:
    """About a tenth of them, drawn from the generator; where there are none, nothing is drawn."""
    generator = torch.Generator().manual_seed(0)
    dropped = drop_positions(torch.full((5000, 1), 7), Draws(generator))
    assert (dropped == NO_POSITION).float().mean().item() == pytest.approx(DROPPED, abs=0.02)
    state = generator.get_state()
    assert drop_positions(torch.empty(3, 0), Draws(generator)).shape == (3, 0)
    assert torch.equal(generator.get_state(), state)


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """The bias and its optimizer's state are in the checkpoint."""
    rows = opposite_rows(1000, 0)
    rows = with_columns(rows, position=(np.arange(1000) % 5).astype(np.int32))
    whole, stopped = small_hinet(), small_hinet()
    given: dict[str, Any] = {"scenarios": ("here", "there"), "tasks": ("click", "like"), "device": "cpu"}
    fit(whole, rows, opposite_rows(800, 1), RECIPE, **given)
    checkpoint = Checkpoint(tmp_path, "key", 0)
    fit(stopped, rows, opposite_rows(800, 1), recipe_with(epochs=1), checkpoint=checkpoint, **given)
    resumed = small_hinet(seed=9)
    fit(resumed, rows, opposite_rows(800, 1), RECIPE, checkpoint=checkpoint, **given)
    for name, weights in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights), name
