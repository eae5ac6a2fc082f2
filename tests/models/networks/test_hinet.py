"""models/networks/hinet.py: the paper's formulas in slow loops, and none of the faults of public implementations."""

import copy
import doctest
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks import hinet
from models.networks.hinet import HiNet
from models.training.loss import weighted_loss
from tests.support.hinet_network import CONFIG, ROWS, TASKS, network, rows

pytestmark = pytest.mark.unit


class LoopHiNet:
    """The paper's formulas as modules in lists, one row at a time: slow and obvious."""

    def __init__(self, fast: HiNet, scenarios: int, heads: bool) -> None:
        self.fast, self.scenarios, self.heads = fast, scenarios, heads
        per, tasks = CONFIG["task_experts"], TASKS
        sub = perceptrons(fast.integration.experts.layers)
        count = CONFIG["sub_experts"]
        self.mixtures = [sub[i * count : (i + 1) * count] for i in range(1 + scenarios)]
        experts = perceptrons(fast.control.experts.layers)
        self.of_task = [experts[j * per : (j + 1) * per] for j in range(tasks)]
        self.of_all = experts[tasks * per :]
        self.towers = perceptrons([*fast.towers.hidden.layers, fast.towers.logits])

    def __call__(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Logits [B, T], one row after the other."""
        x = self.fast.embedding(categorical, bags, numeric)
        return torch.stack([self.row(x[b], int(scenario[b])) for b in range(len(x))])

    def row(self, x: Tensor, i: int) -> Tensor:
        """Logits [T] of a row x [D] of scenario i."""
        gates = zip(self.fast.integration.gates.logits.weight, self.mixtures, strict=True)
        shared, *specific = [mixture(gate @ x, [expert(x) for expert in experts]) for gate, experts in gates]
        parts = [shared, specific[i]]
        if self.scenarios > 1:
            attention = self.fast.scenario_attention
            others = [m for m in range(self.scenarios) if m != i]
            logits = attention.logits.weight @ attention.embedding.weight[i]
            parts.append(mixture(logits[others], [specific[m] for m in others]))
        context = torch.cat(parts)
        return torch.cat([self.task(context, i, j) for j in range(TASKS)])

    def task(self, context: Tensor, i: int, j: int) -> Tensor:
        """Logit [1] of task j from C [3H]."""
        logits = self.fast.control.gates.logits.weight[j] @ context
        read = mixture(logits, [expert(context) for expert in [*self.of_task[j], *self.of_all]])
        tower = i * TASKS + j if self.heads else j
        return self.towers[tower](read)


def mixture(logits: Tensor, values: list[Tensor]) -> Tensor:
    """Sum of softmax(logits) times the values."""
    return sum(w * v for w, v in zip(logits.softmax(0), values, strict=True))


def perceptrons(layers: Any) -> list[nn.Sequential]:
    """Modules of torch with the weights of a stack, one perceptron per expert."""
    return [nn.Sequential(*(part for layer in layers for part in one(layer, e))) for e in range(len(layers[0].weight))]


def one(layer: Any, expert: int) -> list[nn.Module]:
    """One expert's linear layer, and its ReLU if it has one."""
    outputs, inputs = layer.weight[expert].shape
    plain = nn.Linear(inputs, outputs, dtype=layer.weight.dtype)
    plain.load_state_dict({"weight": layer.weight[expert], "bias": layer.bias[expert]})
    return [plain, nn.ReLU()] if layer.relu else [plain]


def test_the_example_in_the_docstring_runs() -> None:
    """The example in HiNet's documentation has the shapes that it states."""
    assert doctest.testmod(hinet).failed == 0


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("scenarios", [1, 2, 4])
def test_hinet_is_the_papers_formulas(scenarios: int, heads: bool) -> None:
    """The stacked network equals the loop over modules, row by row, to 1e-6 (in double precision: to 1e-12)."""
    fast, batch = network(scenarios=scenarios, scenario_heads=heads), rows(scenarios)
    slow = LoopHiNet(fast, scenarios, heads)
    torch.testing.assert_close(fast(**batch), slow(**batch), rtol=0, atol=1e-6)
    fast, batch["numeric"] = copy.deepcopy(fast).double(), batch["numeric"].double()
    slow = LoopHiNet(fast, scenarios, heads)
    torch.testing.assert_close(fast(**batch), slow(**batch), rtol=0, atol=1e-12)


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made, batch = network(), rows()
    single = torch.cat([made(**{name: column[b : b + 1] for name, column in batch.items()}) for b in range(ROWS)])
    torch.testing.assert_close(made(**batch), single, rtol=0, atol=1e-6)


def test_fault_1_every_gate_is_a_softmax_over_experts_that_learns() -> None:
    """Gate weights sum to 1 over the experts (no axis of size 1), vary with the input, and get gradients."""
    made, batch = network(), rows()
    for name, weights in made.gates(**batch).items():
        assert weights.shape[-1] > 1, name
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        assert (weights.std(dim=0) > 1e-4).all(), name
    made(**batch).square().sum().backward()
    for gates in (made.integration.gates, made.control.gates):
        assert (gates.logits.weight.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_fault_2_gate_logits_are_linear() -> None:
    """Negative logits count: weights reach below those of a ReLU's zero logits, and every gate row has a gradient."""
    made, batch = network(), rows()
    x = made.embedding(batch["categorical"], batch["bags"], batch["numeric"])
    logits = made.integration.gates.logits(x)
    assert (logits < 0).float().mean() > 0.2
    torch.testing.assert_close(made.integration.gates(x), F.softmax(logits, dim=-1))
    assert not torch.allclose(made.integration.gates(x), F.softmax(logits.relu(), dim=-1), atol=1e-3)


def test_fault_3_attention_is_over_the_others_only() -> None:
    """Each row of the scenario attention has 0 for itself and weights on the M - 1 others that sum to 1."""
    attention = network().attention()
    assert torch.equal(attention.diagonal(), torch.zeros(4))
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(4))
    assert (attention[~torch.eye(4, dtype=torch.bool)] > 0).all()


def test_fault_3_the_own_scenario_is_not_in_a_rows_attention() -> None:
    """The output of a row's own scenario's experts reaches A through no path."""
    made = network()
    specific = torch.randn(4, 8, 6, requires_grad=True)
    scenario = torch.arange(8, dtype=torch.int32) % 4
    made.scenario_attention(specific, scenario).sum().backward()
    for row, i in enumerate(scenario.tolist()):
        assert not specific.grad[i, row].any()
        assert all(specific.grad[m, row].any() for m in range(4) if m != i)


def test_fault_4_each_scenario_attends_in_its_own_way() -> None:
    """No bottleneck: the rows of the attention differ, and each scenario's embedding gets its own gradient."""
    made, batch = network(), rows()
    logits = made.scenario_attention.logits(made.scenario_attention.embedding.weight)
    for one_row, next_row in pairwise(logits):
        assert not torch.allclose(one_row, next_row)
    made(**batch).square().sum().backward()
    assert (made.scenario_attention.embedding.weight.grad.abs().sum(dim=1) > 0).all()


def test_fault_4_the_attention_reads_only_the_scenario() -> None:
    """The weights are the same for all features of a row: they depend on its scenario only."""
    made = network()
    specific, scenario = torch.randn(4, 8, 6), torch.arange(8, dtype=torch.int32) % 4
    expected = torch.einsum("bm,mbh->bh", made.attention()[scenario.long()], specific)
    torch.testing.assert_close(made.scenario_attention(specific, scenario), expected)


def test_fault_5_rows_train_no_other_scenarios_towers() -> None:
    """With heads per scenario, rows of scenario 1 leave exactly no gradient in towers of 0, 2 and 3."""
    made, batch = network(scenario_heads=True), rows()
    batch["scenario"] = torch.ones(ROWS, dtype=torch.int32)
    weighted_loss(made(**batch), torch.ones(ROWS, 2), batch["scenario"], torch.ones(4, 2)).backward()
    for parameter in made.towers.parameters():
        per_scenario = parameter.grad.unflatten(0, (4, 2)).flatten(1).abs().sum(dim=1)
        assert (per_scenario > 0).tolist() == [False, True, False, False]


def test_fault_6_every_layer_is_created_once() -> None:
    """Forward creates no layer: the parameters stay the same objects and two calls give the same bits."""
    made, batch = network(), rows()
    before = {name: id(parameter) for name, parameter in made.named_parameters()}
    first = made(**batch)
    assert torch.equal(first, made(**batch))
    assert before == {name: id(parameter) for name, parameter in made.named_parameters()}


@pytest.mark.parametrize("heads", [False, True])
def test_fault_6_every_parameter_is_trained(heads: bool) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    made = network(scenario_heads=heads)
    made(**rows()).square().sum().backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_fault_8_each_task_has_its_own_gate() -> None:
    """A change of the second task's gate changes the second task's logits and no bit of the first's."""
    made, batch = network(), rows()
    before = made(**batch)
    with torch.no_grad():
        made.control.gates.logits.weight[1].neg_()
    after = made(**batch)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_one_scenario_has_no_attention() -> None:
    """With M = 1 the attention is left out: C = [G, S], no NaN, and its heat map is one 0."""
    made = network(scenarios=1)
    assert made.scenario_attention is None
    assert made.control.gates.logits.weight.shape[2] == 2 * 6
    assert made(**rows(1)).isfinite().all()
    assert made.attention().tolist() == [[0.0]]


def test_the_seed_determines_the_network() -> None:
    """The same seed gives the same weights to the bit."""
    for one_value, other in zip(network().state_dict().values(), network().state_dict().values(), strict=True):
        assert torch.equal(one_value, other)
