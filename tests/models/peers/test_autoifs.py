"""models/peers/autoifs.py: the network equals the formula of its documentation, and a pruned flow is gone."""

import dataclasses
import doctest

import pytest
import torch
from torch import Tensor

from models.networks.data_spec import DataSpec
from models.peers import autoifs
from models.peers.autoifs import FINAL_TEMPERATURE, FLOWS, AutoIFS, AutoIFSConfig, FlowSelection
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, SCENARIOS, TASKS, WIDTH, rows

pytestmark = pytest.mark.unit

SEARCH = 10  # steps


def network(data: DataSpec = DATA, *, steps: int = 0) -> AutoIFS:
    """A small network that was trained for so many steps."""
    config = AutoIFSConfig(
        embedding_width=WIDTH, shared_units=(9, 8), scenario_units=7, rank=2, gate_units=(6,), search_steps=SEARCH
    )
    made = AutoIFS(data, config)
    made.selection.steps.fill_(steps)
    return made


def with_random_weights(*, steps: int = 0) -> AutoIFS:
    """The same in double precision, with weights far from the initial ones."""
    return plain_blocks.with_random_weights(network(steps=steps))


def pruned_of(made: AutoIFS, x: Tensor, task: int) -> list[Tensor]:
    """The pruned share of each of a row's flows."""
    scores = plain_blocks.apply([made.selection.scores], task, plain_blocks.apply([made.selection.hidden], 0, x))
    progress = made.selection.steps / SEARCH
    return [s.gt(0).to(s) if progress > 1 else (FINAL_TEMPERATURE**progress * s).sigmoid() for s in scores]


def plain_row(made: AutoIFS, x: Tensor, s: int) -> Tensor:
    """Logits [T] of a row x [D] of scenario s."""
    low, tasks = made.scenario_units.specific, made.task_units.specific
    hidden = plain_blocks.apply([made.shared], 0, x)
    shared = plain_blocks.apply([made.scenario_units.shared], 0, hidden)
    own = low.up[s] @ (low.down[s] @ hidden) + low.bias[s]
    logits = []
    for task in range(TASKS):

        def of_all(v: Tensor) -> Tensor:
            return plain_blocks.apply([made.task_units.shared], 0, v)[0]

        def of_task(v: Tensor, task: int = task) -> Tensor:
            return (tasks.up[task] @ (tasks.down[task] @ v) + tasks.bias[task])[0]

        fused = torch.relu(shared + own)
        flows = [of_all(shared), of_task(shared), of_all(own), of_task(own)]
        pruned = pruned_of(made, x, task)
        logits.append(of_all(fused) + of_task(fused) - sum(p * flow for p, flow in zip(pruned, flows, strict=True)))
    return torch.stack(logits)


def scored_with(made: AutoIFS, pruned: list[float]) -> Tensor:
    """The logits [B, T] of the rows of DATA where these flows are pruned in every row."""
    with torch.no_grad():
        made.selection.scores.weight.zero_()
        made.selection.scores.bias.copy_(2 * torch.tensor(pruned).expand(TASKS, FLOWS) - 1)
    return plain_blocks.scored(made)[1].detach()


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(autoifs).failed == 0


@pytest.mark.parametrize("steps", [0, SEARCH // 2, SEARCH, SEARCH + 1])
def test_autoifs_is_the_formula_of_its_documentation(steps: int) -> None:
    """Shared and low-rank units of scenarios and tasks, less the pruned flows, row by row, in and after the search."""
    made = with_random_weights(steps=steps)
    x, logits, scenarios, _ = plain_blocks.scored(made)
    expected = torch.stack([plain_row(made, row, s) for row, s in zip(x, scenarios, strict=True)])
    torch.testing.assert_close(logits, expected)


def test_a_pruned_flow_is_gone() -> None:
    """Where no unit is cut by the ReLU, the logit is the sum of the flows that are not pruned, and only of those."""
    made = with_random_weights(steps=SEARCH + 1)
    with torch.no_grad():
        made.scenario_units.shared.bias.fill_(1000.0)  # no unit of z + l is below 0
        made.task_units.shared.bias.zero_()  # else the fused network and every flow have their own
        made.task_units.specific.bias.zero_()
    whole = scored_with(made, [0, 0, 0, 0])
    single = [whole - scored_with(made, [float(flow == one) for flow in range(FLOWS)]) for one in range(FLOWS)]
    assert all(flow.abs().min() > 0 for flow in single)
    torch.testing.assert_close(sum(single), whole)
    torch.testing.assert_close(scored_with(made, [1, 1, 0, 0]), single[2] + single[3])
    torch.testing.assert_close(scored_with(made, [1, 1, 1, 1]), torch.zeros_like(whole), rtol=0, atol=1e-9)


def test_without_its_flows_a_scenarios_unit_no_longer_counts() -> None:
    """With both flows from the scenario's unit pruned the logits do not depend on that unit's weights."""
    made = with_random_weights(steps=SEARCH + 1)
    with torch.no_grad():
        made.scenario_units.shared.bias.fill_(1000.0)
    before, kept = scored_with(made, [0, 0, 1, 1]), scored_with(made, [0, 0, 0, 0])
    with torch.no_grad():
        made.scenario_units.specific.up.mul_(3)
    torch.testing.assert_close(scored_with(made, [0, 0, 1, 1]), before)
    assert (scored_with(made, [0, 0, 0, 0]) - kept).abs().min() > 0


def test_the_selection_is_soft_in_the_search_and_final_after_it() -> None:
    """Shares move from their start to 0 or 1 step by step; after the last step of the search they are 0 or 1."""
    torch.manual_seed(0)
    selection = FlowSelection(inputs=4, units=(8,), tasks=TASKS, search_steps=SEARCH)
    x = torch.randn(30, 4)
    shares = torch.stack([selection(x).detach() for _ in range(SEARCH + 1)])  # [steps, T, B, FLOWS]
    distance = torch.minimum(shares, 1 - shares)  # from 0 or 1
    assert (distance.diff(dim=0) <= 0).all()
    assert (distance[:3] > 0).all()
    assert torch.equal(shares[-1], shares[0].gt(0.5).float())


def test_scoring_does_not_advance_the_search() -> None:
    """Only training steps count."""
    made = network(steps=3)
    made.eval()(*rows())
    assert made.selection.steps == 3
    made.train()(*rows())
    assert made.selection.steps == 4


def test_the_selection_passes_no_gradient_to_the_features() -> None:
    """The selection reads x without a gradient; in the search its own weights have one, after it none."""
    made = network()
    x = torch.randn(20, made.embedding.width, requires_grad=True)
    made.selection(x).square().sum().backward()
    assert x.grad is None
    assert made.selection.scores.weight.grad.any()
    final = network(steps=SEARCH + 1)
    final(*rows()).square().sum().backward()
    assert not final.selection.scores.weight.grad.any()


def test_rows_train_no_other_scenarios_unit() -> None:
    """Rows of scenario 1 leave no gradient in the low-rank units of 0 and 2."""
    made = with_random_weights().float().train()
    specific = made.scenario_units.specific
    assert plain_blocks.trained_scenarios(made, [specific.down, specific.up, specific.bias]) == [False, True, False]


def test_a_task_trains_no_other_tasks_unit() -> None:
    """The logit of task 0 leaves no gradient in the low-rank unit and the selection of task 1."""
    made = with_random_weights().float().train()
    made(*rows())[:, 0].square().sum().backward()
    specific, scores = made.task_units.specific, made.selection.scores
    for parameter in (specific.down, specific.up, specific.bias, scores.weight, scores.bias):
        assert parameter.grad[0].any()
        assert not parameter.grad[1].any()


def test_every_parameter_is_trained() -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter, from the second step on."""
    made = with_random_weights().float()  # at first B = 0, so that A has no gradient yet
    assert plain_blocks.untrained(made) == []


def test_scenarios_and_tasks_start_as_the_shared_units() -> None:
    """At first the low-rank units are 0: rows that differ in their scenario only have the same logits."""
    made = network().eval()
    categorical, bags, numeric, scenario = rows()
    other = (scenario + 1) % SCENARIOS
    assert torch.equal(made(categorical, bags, numeric, scenario), made(categorical, bags, numeric, other))


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made = network().eval()
    torch.testing.assert_close(made(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)


def test_a_multi_class_task_has_a_logit_per_class() -> None:
    """The binary task keeps one logit of the widest task's three; each class has its own."""
    made = network(dataclasses.replace(DATA, task_outputs=(1, 3))).eval()
    logits = made(*rows())
    assert logits.shape == (20, 4)
    with torch.no_grad():
        made.task_units.specific.bias[1, 2] += 1  # the last class, in the fused network and in two flows
    assert [bool(column.any()) for column in (made(*rows()) - logits).T] == [False, False, False, True]


def test_one_scenario_and_one_task_are_enough() -> None:
    """Without others every logit is finite."""
    made = network(dataclasses.replace(DATA, scenarios=1, task_outputs=(1,)))
    categorical, bags, numeric, scenario = rows()
    assert made(categorical, bags, numeric, scenario * 0).isfinite().all()
