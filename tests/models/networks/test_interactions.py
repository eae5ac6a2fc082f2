"""models/networks/interactions.py: the factorization machine against sums over pairs of fields."""

import doctest
from itertools import combinations

import pytest
import torch

from models.networks import interactions
from models.networks.interactions import CrossLayer, FactorizationMachine, interaction

pytestmark = pytest.mark.unit


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation gives what it says."""
    assert doctest.testmod(interactions).failed == 0


def test_fm_is_the_sum_over_all_pairs_of_fields() -> None:
    """Each task has a weight for the inner product of every two fields, and for the features themselves."""
    machine = FactorizationMachine(fields=4, width=3, inputs=14, outputs=2).double()
    with torch.no_grad():
        machine.pairs.normal_()
    x = torch.randn(6, 14, dtype=torch.double)
    for row, actual in zip(x, machine(x), strict=True):
        fields = row[:12].split(3)
        products = torch.stack([a @ b for a, b in combinations(fields, 2)])
        torch.testing.assert_close(actual, machine.linear.weight @ row + machine.linear.bias + machine.pairs @ products)


def test_fm_starts_as_the_unweighted_one() -> None:
    """Before training: half of (square of the sum minus sum of the squares), the same for all tasks."""
    machine = FactorizationMachine(fields=4, width=3, inputs=12, outputs=2)
    x = torch.randn(6, 12)
    fields = x.unflatten(1, (4, 3))
    expected = (fields.sum(dim=1).square() - fields.square().sum(dim=1)).sum(dim=1) / 2
    torch.testing.assert_close(machine(x) - machine.linear(x), expected.unsqueeze(1).expand(-1, 2))


def test_one_field_has_no_pair() -> None:
    """With a single field only the linear part is left."""
    machine = FactorizationMachine(fields=1, width=3, inputs=3, outputs=2)
    x = torch.randn(6, 3)
    assert torch.equal(machine(x), machine.linear(x))


def test_a_cross_layer_multiplies_every_feature_by_all() -> None:
    """Row by row: x_d + x_d * (sum over r of V_dr (U x)_r + c_d)."""
    cross = CrossLayer(width=5, rank=2).double()
    x = torch.randn(6, 5, dtype=torch.double)
    for row, actual in zip(x, cross(x), strict=True):
        expected = row + row * (cross.up.weight @ (cross.down.weight @ row) + cross.up.bias)
        torch.testing.assert_close(actual, expected)


def test_an_unknown_interaction_is_refused() -> None:
    """The error names the known one."""
    with pytest.raises(ValueError, match="interactions names 'ffm': expected fm"):
        interaction("ffm", fields=2, width=2, inputs=4, outputs=1)
