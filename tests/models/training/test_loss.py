"""The loss against the sum that defines it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.loss import relative, weighted_loss

pytestmark = pytest.mark.unit


def loss_by_loop(logits: torch.Tensor, labels: torch.Tensor, scenario: torch.Tensor, weights: torch.Tensor) -> float:
    """L term by term, with the logarithms written out."""
    total = 0.0
    for row, i in enumerate(scenario.tolist()):
        for task, label in enumerate(labels[row].tolist()):
            if not math.isnan(label):
                p = 1 / (1 + math.exp(-logits[row, task].item()))
                total -= weights[i, task].item() * (label * math.log(p) + (1 - label) * math.log(1 - p))
    return total / len(logits)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 12), tasks=st.integers(1, 3), scenarios=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_the_loss_is_its_definition(rows: int, tasks: int, scenarios: int, seed: int) -> None:
    """The one expression equals the loop over rows and tasks, unobserved labels left out."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, tasks, generator=random)
    labels = torch.randint(0, 2, (rows, tasks), generator=random).float()
    labels[torch.rand(rows, tasks, generator=random) < 0.3] = torch.nan
    scenario = torch.randint(0, scenarios, (rows,), generator=random, dtype=torch.int32)
    weights = torch.rand(scenarios, tasks, generator=random)
    loss = weighted_loss(logits, labels, scenario, weights)
    torch.testing.assert_close(loss.item(), loss_by_loop(logits, labels, scenario, weights), rtol=1e-5, atol=1e-6)


def test_an_unobserved_label_passes_no_gradient() -> None:
    """Where the label is NaN the gradient is exactly 0, and the other gradients are finite."""
    logits = torch.randn(4, 2, requires_grad=True)
    labels = torch.tensor([[1, torch.nan], [0, 1], [torch.nan, torch.nan], [1, 0]])
    weighted_loss(logits, labels, torch.zeros(4).int(), torch.ones(1, 2)).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, ~labels.isnan())
    assert logits.grad.isfinite().all()


def test_labels_of_other_scenarios_do_not_count() -> None:
    """Fault 5: a row counts in the cells of its scenario only; only weight 0 of that scenario removes it."""
    logits, labels = torch.randn(6, 2), torch.ones(6, 2)
    scenario = torch.tensor([0, 0, 0, 1, 1, 1], dtype=torch.int32)
    first = weighted_loss(logits, labels, scenario, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    own = weighted_loss(logits[:3], labels[:3], scenario[:3], torch.ones(2, 2)) * 3 / 6
    torch.testing.assert_close(first, own)
    labels[3:] = 0
    assert torch.equal(first, weighted_loss(logits, labels, scenario, torch.tensor([[1.0, 1.0], [0.0, 0.0]])))


def test_each_task_adds_the_cross_entropy_of_its_own_logits() -> None:
    """Against a loop over rows: softmax over three classes, sigmoid of one logit; a NaN adds nothing."""
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(6, 4, generator=random, dtype=torch.float64, requires_grad=True)
    nan = math.nan
    labels = torch.tensor([[0, 1], [2, nan], [nan, 0], [1, 1], [nan, nan], [2, 0]], dtype=torch.float64)
    scenario, weights = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64)
    expected = 0.0
    for row in range(6):
        lambdas = weights[scenario[row]]
        if not labels[row, 0].isnan():
            expected -= lambdas[0] * logits[row, :3].log_softmax(0)[int(labels[row, 0])]
        if not labels[row, 1].isnan():
            chance = logits[row, 3].sigmoid()
            expected -= lambdas[1] * (chance if labels[row, 1] else 1 - chance).log()
    loss = weighted_loss(logits, labels, scenario, weights, (3, 1))
    torch.testing.assert_close(loss, expected / 6)
    loss.backward()
    assert not logits.grad[4].any()
    assert not logits.grad[1, 3]
    assert not logits.grad[2, :3].any()


def test_one_logit_a_task_is_the_default() -> None:
    """With outputs of 1 given or left out the loss is the same to the bit."""
    logits, labels = torch.randn(9, 2), torch.randint(0, 2, (9, 2)).float()
    scenario, weights = torch.arange(9) % 3, torch.rand(3, 2)
    assert weighted_loss(logits, labels, scenario, weights) == weighted_loss(logits, labels, scenario, weights, (1, 1))


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(0, 3), min_size=2, max_size=9), factor=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_a_row_of_weight_2_is_two_rows(counts: list[int], factor: float, seed: int) -> None:
    """Rows that are there 0, 1, 2 or 3 times have the loss of one row each with that weight, in any unit of weight."""
    random = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(len(counts), 2, generator=random), torch.rand(len(counts), 2, generator=random).round()
    labels[0, 0] = torch.nan
    scenario, weights = torch.arange(len(counts)) % 3, torch.rand(3, 2, generator=random)
    row_weights = relative(torch.tensor(counts)[:, None].float() * factor)
    weighted = weighted_loss(logits, labels, scenario, weights, row_weights=row_weights)
    if not any(counts):
        assert weighted == 0
        return
    repeated = (rows.repeat_interleave(torch.tensor(counts), dim=0) for rows in (logits, labels, scenario))
    torch.testing.assert_close(weighted, weighted_loss(*repeated, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 49, 2048])
def test_weights_of_1_change_no_bit(rows: int) -> None:
    """Neither the weights nor the loss differ from those of rows without weights."""
    logits, labels = torch.randn(rows, 2), torch.rand(rows, 2).round()
    scenario, weights = torch.arange(rows) % 3, torch.rand(3, 2)
    ones = relative(torch.ones(rows, 1))
    assert torch.equal(ones, torch.ones(rows, 1))
    plain = weighted_loss(logits, labels, scenario, weights)
    assert plain == weighted_loss(logits, labels, scenario, weights, row_weights=ones)
    assert plain == weighted_loss(logits, labels, scenario, weights, row_weights=relative(torch.empty(rows, 0)))
