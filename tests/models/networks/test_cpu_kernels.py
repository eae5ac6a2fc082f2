"""models/networks/cpu_kernels.py: the kernels equal torch's plain layers, values and gradients."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks import cpu_kernels
from models.networks.cpu_kernels import linear_relu, mix_experts, stacked_mlps, wide_linear

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("small", [0, cpu_kernels.SMALL_PRODUCT])
@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_wide_linear_equals_torchs_linear(
    rows: int, relu: bool, biased: bool, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients equal those of F.linear in double precision, for many, few and no rows at all."""
    monkeypatch.setattr(cpu_kernels, "SMALL_PRODUCT", small)
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random) for shape in ((rows, 6), (3, 5, 6), (3, 5))][: 2 + biased]
    gradient = torch.randn(3, rows, 5, generator=random)

    def both(dtype: torch.dtype) -> list[Tensor]:
        x, weight, *bias = leaves = [value.to(dtype).requires_grad_() for value in inputs]
        if dtype == torch.float32:
            y = wide_linear(x, weight, bias[0] if bias else None, relu=relu)
        else:
            y = torch.stack([F.linear(x, w, b) for w, b in zip(weight, bias[0] if bias else [None] * 3, strict=True)])
            y = y.relu() if relu else y
        return [y, *torch.autograd.grad((y * gradient.to(dtype)).sum(), leaves)]

    for fast, slow in zip(both(torch.float32), both(torch.float64), strict=True):
        torch.testing.assert_close(fast, slow.float())


@pytest.fixture(params=sorted({cpu_kernels.ONEDNN, False}))
def by_expert(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows go expert by expert as many do: by oneDNN where torch has it, and by MKL."""
    monkeypatch.setattr(cpu_kernels, "SMALL_PRODUCT", 0)
    monkeypatch.setattr(cpu_kernels, "PREFER_ONEDNN", request.param)


def plain_loop(x: Tensor, *parameters: Tensor) -> Tensor:
    """Perceptrons of two layers, one by one."""
    rows = x if x.dim() == 3 else x.expand(len(parameters[0]), *x.shape)
    weight_1, weight_2, bias_1, bias_2 = parameters
    hidden = [F.linear(r, w, b).relu() for r, w, b in zip(rows, weight_1, bias_1, strict=True)]
    return torch.stack([F.linear(h, w, b).relu() for h, w, b in zip(hidden, weight_2, bias_2, strict=True)])


def values_and_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The function's output for the inputs, and the inputs' gradients for a fixed gradient of the output."""
    leaves = [value.clone().requires_grad_() for value in inputs]
    y = function(*leaves)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y, *torch.autograd.grad((y * gradient).sum(), leaves)]


def two_layers(x: Tensor, weight_1: Tensor, weight_2: Tensor, bias_1: Tensor, bias_2: Tensor) -> Tensor:
    """`stacked_mlps` of two layers."""
    return stacked_mlps(x, [weight_1, weight_2], [bias_1, bias_2])


def three_perceptrons(rows: int, own: bool) -> list[Tensor]:
    """Rows, shared or each perceptron's own, and the weights of three perceptrons 6 -> 5 -> 7."""
    random = torch.Generator().manual_seed(0)
    shapes = ((3, rows, 6) if own else (rows, 6), (3, 5, 6), (3, 7, 5), (3, 5), (3, 7))
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("own", [False, True])
def test_stacked_mlps_equal_a_loop_over_perceptrons(rows: int, own: bool) -> None:
    """Values and gradients equal those of F.linear and ReLU, perceptron by perceptron, in double precision."""
    inputs = three_perceptrons(rows, own)
    slow = values_and_gradients(plain_loop, *(value.double() for value in inputs))
    for actual, expected in zip(values_and_gradients(two_layers, *inputs), slow, strict=True):
        torch.testing.assert_close(actual, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("own", [False, True])
def test_perceptrons_one_by_one_equal_layers_one_by_one(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expert by expert in the cache, or layer by layer in batched products: the same within rounding."""
    by_expert = values_and_gradients(two_layers, *three_perceptrons(33, own))
    monkeypatch.setattr(cpu_kernels, "SMALL_PRODUCT", 2**62)
    by_layer = values_and_gradients(two_layers, *three_perceptrons(33, own))
    for actual, expected in zip(by_expert, by_layer, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("own", [False, True])
def test_what_is_not_finite_stays_not_finite(own: bool) -> None:
    """A NaN in a row is a NaN of every perceptron: a ReLU that turned it into 0 would hide a broken run."""
    x, *parameters = three_perceptrons(33, own)
    x[..., 5, 0] = torch.nan
    y = two_layers(x, *parameters)
    assert y[:, 5].isnan().all()
    assert y.isnan().sum() == 3 * 7
    rows = x if x.dim() == 2 else x[0]
    assert wide_linear(rows, parameters[0], parameters[2], relu=True)[:, 5].isnan().all()


@pytest.mark.usefixtures("by_expert")
def test_rows_that_need_no_gradient_get_none() -> None:
    """Where only the weights require a gradient, the rows' gradient is not computed."""
    x, *parameters = three_perceptrons(33, own=False)
    leaves = [value.requires_grad_() for value in parameters]
    two_layers(x, *leaves).sum().backward()
    assert x.grad is None
    assert all(value.grad is not None for value in leaves)


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("native", {cpu_kernels.ONEDNN_BFLOAT16, False})
def test_autocast_computes_in_bfloat16_and_returns_float32(
    own: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast the products are bfloat16's: near those of float32, not equal; results and gradients float32.

    This holds on a processor with bfloat16 (`native`) and on one without.
    """
    monkeypatch.setattr(cpu_kernels, "ONEDNN_BFLOAT16", native)
    exact = values_and_gradients(two_layers, *three_perceptrons(33, own))
    with torch.autocast("cpu", torch.bfloat16):
        bfloat16 = values_and_gradients(two_layers, *three_perceptrons(33, own))
    assert not torch.equal(exact[0], bfloat16[0])
    for actual, expected in zip(bfloat16, exact, strict=True):
        assert actual.dtype == torch.float32
        assert (actual - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("rows", [0, 1, 33])
def test_linear_relu_equals_torchs(rows: int) -> None:
    """One layer equals F.linear and a ReLU, also for no rows at all."""
    x, weight, bias = torch.randn(rows, 6), torch.randn(5, 6), torch.randn(5)
    torch.testing.assert_close(linear_relu(x, weight, bias), F.linear(x, weight, bias).relu())


def test_a_mixture_is_the_weighted_sum_of_its_experts() -> None:
    """`mix_experts` equals the loop over mixtures and experts, also where all mixtures share their experts."""
    values, weights = torch.randn(3, 4, 5, 2), torch.rand(3, 5, 4)
    for experts in (values, values[:1]):
        mixtures = mix_experts(experts, weights)
        for s in range(3):
            own = experts[s % len(experts)]
            torch.testing.assert_close(mixtures[s], sum(own[k] * weights[s, :, k, None] for k in range(4)))


def test_gradients_of_a_mixture_are_those_of_the_sum() -> None:
    """Experts and weights have the gradients of the weighted sum, also where all mixtures share their experts."""

    def weighted_sum(experts: Tensor, weights: Tensor) -> Tensor:
        return (experts * weights.transpose(1, 2).unsqueeze(3)).sum(dim=1)

    values, weights = torch.randn(3, 4, 5, 2), torch.rand(3, 5, 4)
    for experts in (values, values[:1]):
        functions = (mix_experts, weighted_sum)
        actual, expected = (values_and_gradients(function, experts, weights) for function in functions)
        for one, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, other)
