"""models/inference/fused.py: the fused inference path gives the logits of the network's forward."""

from typing import Any

import numpy as np
import pytest
import torch

from features.encoding.encoder import Batch
from models.inference import fused_layers
from models.inference.fused import FusedHiNet
from models.inference.fused_view import FusedViewHiNet, fused_hinet
from models.model_folder import round_embeddings
from models.networks import cpu_kernels
from tests.support.fused_requests import ITEM_COLUMNS, ROWS, forward, network, request, with_other_users

pytestmark = pytest.mark.unit
VIEWS = pytest.mark.parametrize("view", [(), (8, 6)], ids=["without view", "with view"])


@pytest.mark.parametrize("small", [0, fused_layers.SMALL_PRODUCT])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scenario_heads": True},
        {"scenarios": 1},
        {"scenarios": 2},
        {"scenario_attention": False},
        {"expert_units": (6,)},
        {"expert_units": (9, 7, 6), "tower_units": (7, 3)},
        {"task_outputs": (3, 1)},
        {"task_outputs": (1, 4), "scenario_heads": True},
        {"scenario_view": (8, 6)},
        {"scenario_view": (8, 6), "cross_rank": 3},
        {"scenario_view": (8, 7, 6), "scenario_heads": True, "cross_rank": 2},
        {"scenario_view": (8, 6), "scenario_attention": False, "scenarios": 1},
    ],
    ids=str,
)
def test_fused_logits_are_those_of_the_forward(
    changes: dict[str, Any], small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached partial activations, of all items or of some, and those of the request give the forward's logits, to 1e-5.

    So with all experts at once, and one by one.
    """
    monkeypatch.setattr(fused_layers, "SMALL_PRODUCT", small)
    monkeypatch.setattr(cpu_kernels, "SMALL_PRODUCT", small)
    made = network(**changes)
    fast = fused_hinet(made, ITEM_COLUMNS)
    index = torch.tensor([7, 3, 3, 49, 0])
    for scenario in range(made.scenarios):
        batch = request(scenario)
        expected = forward(made, batch)
        assert expected.std(dim=0).max() > 0.05  # the items differ
        user, items = fast.user(batch), fast.items(with_other_users(batch))
        same = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(fast.rank(user, items, scenario), expected, **same)
        torch.testing.assert_close(fast.rank(user, items, scenario, index), expected[index], **same)
        torch.testing.assert_close(fast.rank_rows(user, batch, scenario), expected, **same)


@pytest.mark.parametrize("small", [0, fused_layers.SMALL_PRODUCT])
@pytest.mark.parametrize(
    "changes", [{}, {"scenario_view": (8, 6)}, {"scenario_view": (8, 6), "cross_rank": 3}], ids=str
)
def test_numbers_of_user_and_item_are_given_for_each_row(
    changes: dict[str, Any], small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a number that differs by row beside the cached items, the logits are those of the forward, to 1e-5."""
    monkeypatch.setattr(fused_layers, "SMALL_PRODUCT", small)
    made, batch, index = network(**changes), request(1), torch.tensor([7, 3, 3, 49, 0])
    batch.numeric[:, 3] = np.random.default_rng(0).normal(size=ROWS)
    fast, pairs = fused_hinet(made, ITEM_COLUMNS, (3,)), torch.from_numpy(batch.numeric[:, [3]])
    expected, same = forward(made, batch), {"rtol": 0, "atol": 1e-5}
    user, items = fast.user(batch), fast.items(with_other_users(batch))
    torch.testing.assert_close(fast.rank(user, items, 1, pairs=pairs), expected, **same)
    torch.testing.assert_close(fast.rank(user, items, 1, index, pairs[index]), expected[index], **same)
    torch.testing.assert_close(fast.rank_rows(user, batch, 1, pairs), expected, **same)


@VIEWS
def test_cached_partial_activations_can_be_used_again(view: tuple[int, ...]) -> None:
    """Ranking changes neither the items' partial activations nor the user's: the second answer equals the first."""
    fast, batch = fused_hinet(network(scenario_view=view), ITEM_COLUMNS), request(2)
    user, items = fast.user(batch), fast.items(batch)
    assert torch.equal(fast.rank(user, items, 2), fast.rank(user, items, 2))


@VIEWS
def test_a_request_without_items_has_no_logits(view: tuple[int, ...]) -> None:
    """A request without items gets an empty answer."""
    fast, batch = fused_hinet(network(scenario_view=view), ITEM_COLUMNS), request(0)
    nothing = torch.empty(0, dtype=torch.long)
    assert fast.rank(fast.user(batch), fast.items(batch), 0, nothing).shape == (0, 2)
    none = Batch(*(part[:0] for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario)))
    assert fast.rank_rows(fast.user(batch), none, 0).shape == (0, 2)


@VIEWS
def test_rounded_embeddings_are_ranked_as_by_the_forward(view: tuple[int, ...]) -> None:
    """Of embeddings that are stored as bfloat16 both paths read the same numbers."""
    made, batch = network(scenario_view=view), request(1)
    round_embeddings(made)
    fast = fused_hinet(made, ITEM_COLUMNS)
    ranked = fast.rank(fast.user(batch), fast.items(batch), 1)
    torch.testing.assert_close(ranked, forward(made, batch), rtol=0, atol=1e-5)


def test_the_size_of_a_cached_item() -> None:
    """The partial activations of an item are (1 + M) K (U + 1) floats, which `bytes_per_item` reports."""
    fast = FusedHiNet(network(), ITEM_COLUMNS)
    cached = fast.items(request(0))
    assert fast.bytes_per_item == 4 * 5 * 3 * (9 + 1) == sum(part.nbytes for part in cached) / ROWS


def test_the_size_of_a_cached_item_with_a_view() -> None:
    """With a view they are its features and its part of the cross layer: two ids and a bag of width 4, two numbers."""
    fast = FusedViewHiNet(network(scenario_view=(8, 6), cross_rank=5), ITEM_COLUMNS)
    cached = fast.items(request(0))
    assert fast.bytes_per_item == 4 * (3 * 4 + 2 + 5) == sum(part.nbytes for part in cached) / ROWS


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hierarchy": False}, "hierarchy"),
        ({"interactions": ("fm",)}, r"interactions \['fm'\]"),
        ({"neighbours": 4}, "neighbours are no columns of a row"),
    ],
)
@VIEWS
def test_networks_without_the_fused_path_are_refused(
    changes: dict[str, Any], named: str, view: tuple[int, ...]
) -> None:
    """Where the first layer does not read all of x, or more than it reads x, the error names the option."""
    with pytest.raises(ValueError, match=named):
        fused_hinet(network(**changes, scenario_view=view), ITEM_COLUMNS)


def test_each_path_is_of_its_own_networks() -> None:
    """A network with a view has no first layer for the one path, and one without a view none for the other."""
    with pytest.raises(ValueError, match="with a scenario_view"):
        FusedHiNet(network(scenario_view=(8, 6)), ITEM_COLUMNS)
    with pytest.raises(ValueError, match="with a cross layer"):
        FusedHiNet(network(cross_rank=2), ITEM_COLUMNS)
    with pytest.raises(ValueError, match="without scenario_view"):
        FusedViewHiNet(network(), ITEM_COLUMNS)
