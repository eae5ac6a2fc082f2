"""models/networks/cpu_kernels.py: the fast products are the plain ones, values and gradients."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks import cpu_kernels
from models.networks.cpu_kernels import mix, perceptrons, rectified, wide


@pytest.mark.parametrize("few", [0, cpu_kernels.FEW])
@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_wide_product_is_torchs_linear(
    rows: int, rectify: bool, biased: bool, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of `wide` equal those of F.linear in double precision, for many, few and no rows at all."""
    monkeypatch.setattr(cpu_kernels, "FEW", few)
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random) for shape in ((rows, 6), (3, 5, 6), (3, 5))][: 2 + biased]
    pull = torch.randn(3, rows, 5, generator=random)

    def both(dtype: torch.dtype) -> list[Tensor]:
        x, weight, *bias = wanted = [value.to(dtype).requires_grad_() for value in inputs]
        if dtype == torch.float32:
            y = wide(x, weight, bias[0] if bias else None, rectify=rectify)
        else:
            y = torch.stack([F.linear(x, w, b) for w, b in zip(weight, bias[0] if bias else [None] * 3, strict=True)])
            y = y.relu() if rectify else y
        return [y, *torch.autograd.grad((y * pull.to(dtype)).sum(), wanted)]

    for fast, slow in zip(both(torch.float32), both(torch.float64), strict=True):
        torch.testing.assert_close(fast, slow.float())


@pytest.fixture(params=sorted({cpu_kernels.ONEDNN, False}))
def by_expert(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows go expert by expert, too, as many do: by oneDNN where torch has it, and by MKL."""
    monkeypatch.setattr(cpu_kernels, "FEW", 0)
    monkeypatch.setattr(cpu_kernels, "ONEDNN_FIRST", request.param)


def a_loop(x: Tensor, *parameters: Tensor) -> Tensor:
    """The perceptrons one by one, two layers each."""
    rows = x if x.dim() == 3 else x.expand(len(parameters[0]), *x.shape)
    one, two, of_one, of_two = parameters
    hidden = [F.linear(r, w, b).relu() for r, w, b in zip(rows, one, of_one, strict=True)]
    return torch.stack([F.linear(h, w, b).relu() for h, w, b in zip(hidden, two, of_two, strict=True)])


def values_and_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """What the function makes of the inputs, and the gradients of a fixed pull on it."""
    wanted = [value.clone().requires_grad_() for value in inputs]
    y = function(*wanted)
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y, *torch.autograd.grad((y * pull).sum(), wanted)]


def stack(x: Tensor, one: Tensor, two: Tensor, of_one: Tensor, of_two: Tensor) -> Tensor:
    """`perceptrons` of two layers."""
    return perceptrons(x, [one, two], [of_one, of_two])


def a_stack(rows: int, own: bool) -> list[Tensor]:
    """Rows, shared or each perceptron's own, and the weights of three perceptrons 6 -> 5 -> 7."""
    random = torch.Generator().manual_seed(0)
    shapes = ((3, rows, 6) if own else (rows, 6), (3, 5, 6), (3, 7, 5), (3, 5), (3, 7))
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("own", [False, True])
def test_perceptrons_are_the_loop_over_their_layers(rows: int, own: bool) -> None:
    """Values and gradients equal those of F.linear and ReLU, perceptron by perceptron, in double precision."""
    inputs = a_stack(rows, own)
    slow = values_and_gradients(a_loop, *(value.double() for value in inputs))
    for found, expected in zip(values_and_gradients(stack, *inputs), slow, strict=True):
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("own", [False, True])
def test_both_ways_of_the_perceptrons_are_one(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expert by expert in the cache, or layer by layer in batched products: the same within rounding."""
    by_expert = values_and_gradients(stack, *a_stack(33, own))
    monkeypatch.setattr(cpu_kernels, "FEW", 2**62)
    for found, expected in zip(by_expert, values_and_gradients(stack, *a_stack(33, own)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("own", [False, True])
def test_what_is_not_finite_stays_not_finite(own: bool) -> None:
    """A NaN in a row comes out of every perceptron as NaN: a ReLU that makes 0 of it would hide a broken run."""
    x, *parameters = a_stack(33, own)
    x[..., 5, 0] = torch.nan
    found = stack(x, *parameters)
    assert found[:, 5].isnan().all()
    assert found.isnan().sum() == 3 * 7
    rows = x if x.dim() == 2 else x[0]
    assert wide(rows, parameters[0], parameters[2], rectify=True)[:, 5].isnan().all()


@pytest.mark.usefixtures("by_expert")
def test_rows_that_need_no_gradient_get_none() -> None:
    """Where only the weights learn, the gradient of the rows is neither made nor asked for."""
    x, *parameters = a_stack(33, own=False)
    wanted = [value.requires_grad_() for value in parameters]
    stack(x, *wanted).sum().backward()
    assert x.grad is None
    assert all(value.grad is not None for value in wanted)


@pytest.mark.usefixtures("by_expert")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("native", {cpu_kernels.ONEDNN_BFLOAT16, False})
def test_autocast_halves_the_digits_inside_and_gives_float32(
    own: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast the products are bfloat16's: near those of float32, not equal; results and gradients float32.

    So on a processor that has bfloat16 (`native`), and on one that has not.
    """
    monkeypatch.setattr(cpu_kernels, "ONEDNN_BFLOAT16", native)
    exact = values_and_gradients(stack, *a_stack(33, own))
    with torch.autocast("cpu", torch.bfloat16):
        halved = values_and_gradients(stack, *a_stack(33, own))
    assert not torch.equal(exact[0], halved[0])
    for found, expected in zip(halved, exact, strict=True):
        assert found.dtype == torch.float32
        assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("rows", [0, 1, 33])
def test_a_rectified_layer_is_torchs(rows: int) -> None:
    """`rectified` equals F.linear and a ReLU, also for no rows at all."""
    x, weight, bias = torch.randn(rows, 6), torch.randn(5, 6), torch.randn(5)
    torch.testing.assert_close(rectified(x, weight, bias), F.linear(x, weight, bias).relu())


def test_a_mixture_is_the_weighted_sum_of_its_experts() -> None:
    """`mix` equals the loop over mixtures and experts, also where all mixtures share their experts."""
    values, weights = torch.randn(3, 4, 5, 2), torch.rand(3, 5, 4)
    for experts_of in (values, values[:1]):
        found = mix(experts_of, weights)
        for s in range(3):
            of_s = experts_of[s % len(experts_of)]
            torch.testing.assert_close(found[s], sum(of_s[k] * weights[s, :, k, None] for k in range(4)))


def test_gradients_of_a_mixture_are_those_of_the_sum() -> None:
    """`mix` passes to experts and weights what the weighted sum passes, also where all mixtures share their experts."""

    def plainly(experts: Tensor, weights: Tensor) -> Tensor:
        return (experts * weights.transpose(1, 2).unsqueeze(3)).sum(dim=1)

    values, weights = torch.randn(3, 4, 5, 2), torch.rand(3, 5, 4)
    for experts in (values, values[:1]):
        found, expected = (values_and_gradients(function, experts, weights) for function in (mix, plainly))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
