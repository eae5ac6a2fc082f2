"""models/networks/hinet.py: each option beyond the paper does what is documented, and off it changes nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.networks.hinet import HiNet, HiNetConfig
from tests.support.hinet_network import CONFIG, data_spec, network, rows

pytestmark = pytest.mark.unit
OFF: dict[str, Any] = {
    "interactions": (),
    "scenario_heads": False,
    "scenario_view": (),
    "scenario_attention": True,
    "hierarchy": True,
}
ON: dict[str, dict[str, Any]] = {
    "fm": {"interactions": ("fm",)},
    "scenario_view": {"scenario_view": (8, 6)},
    "view_and_fm": {"scenario_view": (8, 6), "interactions": ("fm",), "hierarchy": False},
    "no_attention": {"scenario_attention": False},
    "no_hierarchy": {"hierarchy": False},
}
SUMS = {  # of the initial weights of seed 3 before HiNet had options, in their order
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


def test_without_options_weights_and_logits_are_those_of_the_first_version() -> None:
    """The same seed draws the same weights in the same order as before HiNet had options: the same logits."""
    torch.manual_seed(3)
    made = HiNet(data_spec(), HiNetConfig(**CONFIG))
    sums = {name: float(value.double().sum()) for name, value in made.state_dict().items()}
    assert list(sums) == list(SUMS)
    assert sums == pytest.approx(SUMS, abs=1e-5)
    torch.testing.assert_close(made(**rows())[:3], torch.tensor(LOGITS), rtol=0, atol=1e-6)


def test_options_at_their_defaults_change_no_bit() -> None:
    """Set to their off values, options change no weight and no logit."""
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
    """Scored one by one or in a batch, rows have the same logits."""
    made, batch = network(**option), rows()
    logits = made(**batch)
    single = [made(**{name: column[b : b + 1] for name, column in batch.items()}) for b in range(len(logits))]
    torch.testing.assert_close(logits, torch.cat(single), rtol=0, atol=1e-5)


@pytest.mark.parametrize("option", ON.values(), ids=ON)
def test_the_heat_maps_show_the_blocks_that_exist(option: dict[str, Any]) -> None:
    """Gates are weights that sum to 1; the attention is 0 where it is left out."""
    made = network(**option)
    gates = made.gates(**rows())
    assert set(gates) == ({"tasks"} if made.integration is None else {"shared", "scenarios", "tasks"})
    for weights in gates.values():
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    total = 0.0 if made.scenario_attention is None else 1.0
    torch.testing.assert_close(made.attention().sum(dim=1), torch.full((4,), total))


def test_interactions_are_added_to_the_logits() -> None:
    """The logits are those of the network without the interaction plus its term of x."""
    batch = rows()
    bare, made = network(), network(interactions=("fm",))
    x = bare.embedding(**without_scenario(batch))
    made.load_state_dict({**made.state_dict(), **bare.state_dict()})
    torch.testing.assert_close(made(**batch), bare(**batch) + made.additions.interactions["fm"](x))


def without_scenario(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of the embedding."""
    return {name: batch[name] for name in ("categorical", "bags", "numeric")}


def test_all_layers_but_the_interactions_read_the_scenario_view() -> None:
    """The logits are those of the layers above for the view of x, plus the terms of x itself."""
    made, batch = network(scenario_view=(8, 6), interactions=("fm",)), rows()
    assert made.view is not None
    x = made.embedding(**without_scenario(batch))
    view = made.view(x, batch["scenario"])
    assert view.shape == (len(x), 6)
    shared, specific = made.integration(view)
    own = specific[batch["scenario"].long(), torch.arange(len(x))]
    context = torch.cat([shared, own, made.scenario_attention(specific, batch["scenario"])], dim=1)
    expected = made.towers(made.control(context), batch["scenario"]) + made.additions.interactions["fm"](x)
    torch.testing.assert_close(made(**batch), expected)


def test_a_view_of_one_width_is_refused() -> None:
    """The scenario's layer needs one layer after it."""
    with pytest.raises(ValueError, match=r"two widths or more, .* not \(8,\)"):
        network(scenario_view=(8,))


def test_without_attention_the_context_is_shared_and_own() -> None:
    """C = [G, S]: the outputs of other scenarios' experts are not in it."""
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
