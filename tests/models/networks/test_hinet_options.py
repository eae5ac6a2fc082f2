"""HiNet's options beyond the paper: each does what it says, and switched off none is there."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.networks.hinet import ExpertsOfSets, HiNet
from tests.models.networks.test_hinet import SHAPE, network, rows
from tests.support.plain_blocks import apply

OFF: dict[str, Any] = {
    "embedding_sets": 1,
    "interactions": (),
    "cross_layers": 2,
    "normalize": False,
    "detach_gates": False,
    "scenario_view": (),
    "scenario_attention": True,
    "hierarchy": True,
}
ON: dict[str, dict[str, Any]] = {
    "embedding_sets": {"embedding_sets": 3},
    "fm": {"interactions": ("fm",)},
    "cross": {"interactions": ("cross",)},
    "normalize": {"normalize": True},
    "detach_gates": {"detach_gates": True},
    "scenario_view": {"scenario_view": (8, 6)},
    "view_and_fm": {"scenario_view": (8, 6), "interactions": ("fm",), "hierarchy": False},
    "no_attention": {"scenario_attention": False},
    "no_hierarchy": {"hierarchy": False},
    "many": {"embedding_sets": 3, "interactions": ("fm", "cross"), "normalize": True, "detach_gates": True},
}
SUMS = {  # of the weights of `network` as they were before there were options, in their order
    "embedding.weight": 0.211065,
    "integration.gates.logits.weight": -0.897813,
    "integration.experts.layers.0.weight": 1.680603,
    "integration.experts.layers.0.bias": 0.164422,
    "integration.experts.layers.1.weight": -11.366662,
    "integration.experts.layers.1.bias": -0.043402,
    "scenario_attention.embedding.weight": -5.720619,
    "scenario_attention.logits.weight": 1.117127,
    "control.gates.logits.weight": 0.985439,
    "control.experts.layers.0.weight": -1.317722,
    "control.experts.layers.0.bias": -0.646598,
    "control.experts.layers.1.weight": -1.062607,
    "control.experts.layers.1.bias": 0.089924,
    "towers.hidden.layers.0.weight": 1.567845,
    "towers.hidden.layers.0.bias": -0.348803,
    "towers.logits.weight": 0.41706,
    "towers.logits.bias": -0.223433,
}
LOGITS = [[0.0486366749, -0.2241681516], [0.0507138222, -0.2260953784], [0.0494194478, -0.2259513736]]


def test_without_options_the_network_is_the_one_before_them() -> None:
    """The same seed draws the same weights in the same order as before there were options: the same logits."""
    torch.manual_seed(3)
    made = HiNet(**SHAPE, scenarios=4, scenario_heads=False)
    found = {name: float(value.double().sum()) for name, value in made.state_dict().items()}
    assert list(found) == list(SUMS)
    assert found == pytest.approx(SUMS, abs=1e-5)
    torch.testing.assert_close(made(**rows())[:3], torch.tensor(LOGITS), rtol=0, atol=1e-6)


def test_options_at_their_defaults_change_no_bit() -> None:
    """Asked for by their off values, options leave every weight and every logit as it is."""
    bare, off = network(), network(**OFF)
    for (name, value), (other, same) in zip(bare.state_dict().items(), off.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(value, same)
    assert torch.equal(bare(**rows()), off(**rows()))


@pytest.mark.parametrize("option", ON.values(), ids=ON)
@pytest.mark.parametrize("scenarios", [1, 4])
def test_every_parameter_is_trained_with_every_option(option: dict[str, Any], scenarios: int) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    made = network(scenarios=scenarios, **option)
    made(**rows(scenarios)).square().sum().backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("option", ON.values(), ids=ON)
def test_a_row_does_not_depend_on_its_batch(option: dict[str, Any]) -> None:
    """Scored alone or among others, a row gets the same logits."""
    made, batch = network(**option), rows()
    together = made(**batch)
    one = torch.cat([made(**{name: column[b : b + 1] for name, column in batch.items()}) for b in range(len(together))])
    torch.testing.assert_close(together, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("option", ON.values(), ids=ON)
def test_the_heat_maps_know_what_is_there(option: dict[str, Any]) -> None:
    """Gates are weights that sum to 1; the attention is 0 where there is none."""
    made = network(**option)
    gates = made.gates(**rows())
    assert set(gates) == ({"tasks"} if made.integration is None else {"shared", "scenarios", "tasks"})
    for weights in gates.values():
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    heard = 0.0 if made.scenario_attention is None else 1.0
    torch.testing.assert_close(made.attention().sum(dim=1), torch.full((4,), heard))


def test_each_sub_expert_reads_its_set_of_embeddings() -> None:
    """Of each mixture's sub-experts the first K / n read the first set and the numbers, and so on."""
    sets, fields, numeric, mixtures, count = 2, 3, 2, 5, 4
    experts = ExpertsOfSets(
        sets=sets,
        fields=fields,
        mixtures=mixtures,
        sub_experts=count,
        inputs=fields * sets * 4 + numeric,
        numeric=numeric,
        units=(7, 6),
    ).double()
    x = torch.randn(8, fields * sets * 4 + numeric, dtype=torch.double)
    found = experts(x).unflatten(0, (mixtures, count))
    for row in range(8):
        embedded, numbers = x[row, :-numeric].view(fields, sets, 4), x[row, -numeric:]
        for mixture in range(mixtures):
            for k in range(count):
                of_set, within = divmod(k, count // sets)
                read = torch.cat([embedded[:, of_set].flatten(), numbers])
                expected = apply([experts.of_set[of_set]], mixture * (count // sets) + within, read)
                torch.testing.assert_close(found[mixture, k, row], expected)


def test_embedding_sets_are_independent_and_width_wide_each() -> None:
    """Every row of a table holds as many embeddings of `embedding_width` as there are sets."""
    made = network(embedding_sets=3)
    width = SHAPE["embedding_width"]
    assert made.embedding.weight.shape[1] == 3 * width
    assert made.integration.experts.of_set[1].layers[0].weight.shape[2] == 5 * width + SHAPE["numeric"]  # of 5 fields


def test_sets_that_do_not_divide_the_sub_experts_are_refused() -> None:
    """The error has the rule and the numbers."""
    with pytest.raises(ValueError, match="embedding_sets must divide sub_experts, but 2 does not divide 3"):
        network(embedding_sets=2)


def test_interactions_are_added_to_the_logits() -> None:
    """The logits are those of the network without them plus each term of x."""
    batch = rows()
    bare, made = network(), network(interactions=("fm", "cross"))
    x = bare.embedding(**without_scenario(batch))
    made.load_state_dict({**made.state_dict(), **bare.state_dict()})
    terms = made.interactions["fm"](x) + made.interactions["cross"](x)
    torch.testing.assert_close(made(**batch), bare(**batch) + terms)


def without_scenario(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the embedding reads."""
    return {name: batch[name] for name in ("categorical", "bags", "numeric")}


def test_normalized_experts_see_no_scale() -> None:
    """Scaling up what an expert's layer computes changes nothing: mean 0 and deviation 1 before each ReLU."""
    made, batch = network(normalize=True), rows()
    before = made(**batch)
    with torch.no_grad():
        made.control.experts.layers[0].weight.mul_(50)
        made.control.experts.layers[0].bias.mul_(50)
    torch.testing.assert_close(made(**batch), before, rtol=0, atol=1e-3)


def test_detached_gates_teach_the_features_nothing() -> None:
    """With the experts' output held, no gradient reaches the features; without the option it does."""
    for detached in (True, False):
        gates = network(detach_gates=detached).integration.gates
        x = torch.randn(5, gates.logits.weight.shape[2], requires_grad=True)
        gates(x).square().sum().backward()
        assert (x.grad is None) is detached
        assert gates.logits.weight.grad.any()


def test_all_but_the_interactions_reads_the_scenarios_view() -> None:
    """The logits are those of the layers above on the view of x, plus the terms of x itself."""
    made, batch = network(scenario_view=(8, 6), interactions=("fm",)), rows()
    assert made.view is not None
    x = made.embedding(**without_scenario(batch))
    view = made.view(x, batch["scenario"])
    assert view.shape == (len(x), 6)
    shared, specific = made.integration(view)
    own = specific[batch["scenario"].long(), torch.arange(len(x))]
    context = torch.cat([shared, own, made.scenario_attention(specific, batch["scenario"])], dim=1)
    expected = made.towers(made.control(context), batch["scenario"]) + made.interactions["fm"](x)
    torch.testing.assert_close(made(**batch), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario_view": (8, 6), "embedding_sets": 3}, "use one of the two"),
        ({"scenario_view": (8,)}, r"two widths or more, .* not \(8,\)"),
    ],
)
def test_views_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    """Sets are read apart; the scenario's layer needs one behind it."""
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_without_attention_the_context_is_shared_and_own() -> None:
    """C = [G, S]: what other scenarios' experts make of a row is nowhere."""
    made, batch = network(scenario_attention=False), rows()
    assert made.control.gates.logits.weight.shape[2] == 2 * 6
    batch["scenario"] = torch.zeros_like(batch["scenario"])
    made(**batch).square().sum().backward()
    experts = made.integration.experts.layers[0].weight.grad.unflatten(0, (5, 3)).flatten(1).abs().sum(dim=1)
    assert (experts > 0).tolist() == [True, True, False, False, False]


def test_without_hierarchy_the_task_layer_reads_the_features() -> None:
    """C = x: customized gate control alone."""
    made, batch = network(hierarchy=False), rows()
    assert made.integration is None
    x = made.embedding(**without_scenario(batch))
    torch.testing.assert_close(made(**batch), made.towers(made.control(x), batch["scenario"]))
