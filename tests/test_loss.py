"""The loss against the sum that defines it."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.loss import weighted_loss


def by_loop(logits: torch.Tensor, labels: torch.Tensor, scenario: torch.Tensor, weights: torch.Tensor) -> float:
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
    found = weighted_loss(logits, labels, scenario, weights)
    torch.testing.assert_close(found.item(), by_loop(logits, labels, scenario, weights), rtol=1e-5, atol=1e-6)


def test_an_unobserved_label_passes_no_gradient() -> None:
    """Where the label is NaN the gradient is exactly 0, and the other gradients are finite."""
    logits = torch.randn(4, 2, requires_grad=True)
    labels = torch.tensor([[1, torch.nan], [0, 1], [torch.nan, torch.nan], [1, 0]])
    weighted_loss(logits, labels, torch.zeros(4).int(), torch.ones(1, 2)).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, ~labels.isnan())
    assert logits.grad.isfinite().all()


def test_labels_of_other_scenarios_do_not_count() -> None:
    """Fault 5: a row counts in its own scenario's cells only; weight 0 on its scenario silences it, others do not."""
    logits, labels = torch.randn(6, 2), torch.ones(6, 2)
    scenario = torch.tensor([0, 0, 0, 1, 1, 1], dtype=torch.int32)
    first = weighted_loss(logits, labels, scenario, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    alone = weighted_loss(logits[:3], labels[:3], scenario[:3], torch.ones(2, 2)) * 3 / 6
    torch.testing.assert_close(first, alone)
    labels[3:] = 0
    assert torch.equal(first, weighted_loss(logits, labels, scenario, torch.tensor([[1.0, 1.0], [0.0, 0.0]])))
