"""The blocks of models/networks/layers.py against what they replace: one module at a time, in loops."""

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.networks import layers
from models.networks.layers import FeatureEmbedding, Gates, StackedExperts, StackedLinear, StackedTowers, own
from tests.support.plain_blocks import apply


def a_loop(stack: StackedExperts, expert: int, x: Tensor) -> Tensor:
    """One expert of a stack as plain matrix products."""
    for layer in stack.layers:
        x = torch.relu(x @ layer.weight[expert].T + layer.bias[expert])
    return x


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation of the blocks gives what it says."""
    assert doctest.testmod(layers).failed == 0


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_embedding_is_one_lookup_per_column_bag_means_and_numbers(data: st.DataObject) -> None:
    """The stacked lookup equals a table per column, the mean over the ids of each bag, and the numbers after them."""
    table_rows = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    a_table = st.integers(0, len(table_rows) - 1)
    columns, bags = data.draw(st.lists(a_table, max_size=4)), data.draw(st.lists(a_table, max_size=3))
    lengths = [data.draw(st.integers(1, 4)) for _ in bags]
    rows, numbers, width = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3)), 3
    embed = FeatureEmbedding(
        table_rows=table_rows,
        categorical_tables=columns,
        bag_tables=bags,
        bag_lengths=lengths,
        numeric=numbers,
        embedding_width=width,
    )
    tables = embed.weight.split(table_rows)
    ids = [[data.draw(st.integers(0, table_rows[t] - 1)) for t in columns] for _ in range(rows)]
    bag_ids = [
        [[data.draw(st.integers(-1, table_rows[t] - 1)) for _ in range(n)] for t, n in zip(bags, lengths, strict=True)]
        for _ in range(rows)
    ]
    numeric = torch.randn(rows, numbers)
    flat = torch.tensor([[i for bag in row for i in bag] for row in bag_ids], dtype=torch.int32).reshape(rows, -1)
    found = embed(torch.tensor(ids, dtype=torch.int32).reshape(rows, -1), flat, numeric)
    for row in range(rows):
        parts = [tables[t][i] for t, i in zip(columns, ids[row], strict=True)]
        for table, bag in zip(bags, bag_ids[row], strict=True):
            inside = [tables[table][i] for i in bag if i >= 0]
            parts.append(torch.stack(inside).mean(0) if inside else torch.zeros(width))
        torch.testing.assert_close(found[row], torch.cat([*parts, numeric[row]]))
    assert found.shape == (rows, embed.width)


def test_padding_of_bags_trains_nothing() -> None:
    """A bag of padding alone leaves no gradient in its table."""
    embed = FeatureEmbedding(
        table_rows=(4,), categorical_tables=(), bag_tables=(0,), bag_lengths=(3,), numeric=0, embedding_width=2
    )
    embed(torch.zeros(2, 0).int(), torch.full((2, 3), -1).int(), torch.zeros(2, 0)).sum().backward()
    assert embed.weight.grad is not None
    assert not embed.weight.grad.any()


def test_a_table_that_is_not_declared_is_refused() -> None:
    """A column that asks for a table which is not there is named at construction."""
    with pytest.raises(ValueError, match=r"tables \[2\], but table_rows declares tables 0 to 1"):
        FeatureEmbedding(
            table_rows=(3, 3), categorical_tables=(0, 2), bag_tables=(), bag_lengths=(), numeric=0, embedding_width=2
        )


@pytest.mark.parametrize("units", [(5,), (6, 4), (7, 5, 3)])
def test_stacked_experts_are_the_experts_one_by_one(units: tuple[int, ...]) -> None:
    """Every expert of a stack equals its own perceptron, for shared rows and for rows of its own."""
    stack = StackedExperts(experts=4, inputs=8, units=units)
    shared, rows = torch.randn(10, 8), torch.randn(4, 10, 8)
    for expert in range(4):
        torch.testing.assert_close(stack(shared)[expert], a_loop(stack, expert, shared))
        torch.testing.assert_close(stack(rows)[expert], a_loop(stack, expert, rows[expert]))


def test_gradients_of_a_stack_are_those_of_the_loop() -> None:
    """Backward through the stack gives every parameter, and x, the gradient that the loop gives it."""
    stack, x = StackedExperts(experts=3, inputs=5, units=(6, 4)), torch.randn(7, 5, requires_grad=True)
    pull, wanted = torch.randn(3, 7, 4), [x, *stack.parameters()]
    fast = torch.autograd.grad((stack(x) * pull).sum(), wanted)
    slow = torch.autograd.grad(sum((a_loop(stack, e, x) * pull[e]).sum() for e in range(3)), wanted)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other)


def test_the_wide_product_follows_autocast() -> None:
    """Under autocast the product is in bfloat16, as any other linear layer's."""
    layers = StackedLinear(stack=3, inputs=6, outputs=5, rectify=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert layers(torch.randn(4, 6)).dtype == torch.bfloat16
    assert layers(torch.randn(4, 6)).dtype == torch.float32


def test_each_expert_starts_as_a_linear_layer_of_torch_does() -> None:
    """Weights and biases of every layer are uniform within 1 / sqrt(inputs), as nn.Linear draws them."""
    torch.manual_seed(0)
    layer, plain = StackedLinear(stack=50, inputs=16, outputs=40), nn.Linear(16, 2000)
    for stacked, single in ((layer.weight, plain.weight), (layer.bias, plain.bias)):
        assert stacked.abs().max() <= 16**-0.5
        assert stacked.abs().max().item() == pytest.approx(single.abs().max().item(), rel=0.01)
        assert stacked.std().item() == pytest.approx(single.std().item(), rel=0.05)
    assert layer.weight[0].std().item() == pytest.approx(16**-0.5 / math.sqrt(3), rel=0.1)


def test_a_gate_is_a_softmax_over_experts_of_linear_logits() -> None:
    """Weights equal softmax(W x) gate by gate, sum to 1, and are not cut by a ReLU: negative logits count."""
    gates, x = Gates(mixtures=3, experts=4, inputs=6), torch.randn(9, 6)
    weights = gates(x)
    for mixture in range(3):
        logits = x @ gates.logits.weight[mixture].T
        assert (logits < 0).any()
        torch.testing.assert_close(weights[mixture], logits.softmax(dim=1))
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 9))


def test_own_takes_each_row_from_its_own_scenario() -> None:
    """Row b of the result is row b of what its scenario made."""
    values, scenario = torch.randn(3, 4, 2), torch.tensor([2, 0, 0, 1], dtype=torch.int32)
    expected = torch.stack([values[2, 0], values[0, 1], values[0, 2], values[1, 3]])
    torch.testing.assert_close(own(values, scenario), expected)


@pytest.mark.parametrize("scenarios", [1, 3])
def test_towers_are_the_towers_one_by_one(scenarios: int) -> None:
    """The logit of a row and task is that of the tower of its scenario and task, computed alone."""
    towers = StackedTowers(scenarios=scenarios, tasks=2, inputs=4, units=(5, 3))
    x, scenario = torch.randn(2, 6, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    found = towers(x, scenario)
    for row, task in torch.cartesian_prod(torch.arange(6), torch.arange(2)).tolist():
        tower = int(scenario[row]) % scenarios * 2 + task
        hidden = a_loop(towers.hidden, tower, x[task, row])
        logit = hidden @ towers.logits.weight[tower, 0] + towers.logits.bias[tower, 0]
        torch.testing.assert_close(found[row, task], logit)


def test_towers_of_several_outputs_are_plain_towers_side_by_side() -> None:
    """Each task has its own number of logits, in the order of the tasks, by the row's own scenario."""
    outputs, random = (3, 1, 2), torch.Generator().manual_seed(5)
    for scenarios in (1, 4):
        towers = StackedTowers(scenarios=scenarios, tasks=3, inputs=4, units=(6,), task_outputs=outputs).double()
        x = torch.randn(3, 9, 4, generator=random, dtype=torch.float64)
        scenario = torch.randint(0, scenarios, (9,), generator=random)
        found = towers(x, scenario)
        for row, place in enumerate(scenario.tolist()):
            layers = [towers.hidden, towers.logits]
            plain = [apply(layers, 3 * place + task, x[task, row])[:count] for task, count in enumerate(outputs)]
            torch.testing.assert_close(found[row], torch.cat(plain))


def test_outputs_must_be_told_for_every_task() -> None:
    """Too few numbers, or none for a task: the message says the rule."""
    for wrong in ((1,), (2, 0)):
        with pytest.raises(ValueError, match="task_outputs must be 2 numbers from 1, one for each task"):
            StackedTowers(scenarios=1, tasks=2, inputs=4, units=(6,), task_outputs=wrong)
