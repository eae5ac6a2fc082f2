"""Matrix products of stacked layers, by the kernels that do them best.

On a CPU with AVX-512 large products are oneDNN's: MKL's do half as well on processors that are not Intel's (seen: 245
against 95 GFLOP/s on one core of an EPYC, bfloat16 470). Without it MKL's are as good, write where they are told to,
and need no operand turned. Elsewhere they are torch's, one batched product per layer. Torch has oneDNN's products for
inference only, so their gradients are written out here. Under torch.autocast they take bfloat16 and give float32.

Letters: B rows, N stacked layers (or perceptrons).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 1_500_000  # multiplications of a product: up to here what a call of oneDNN costs before it starts decides
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN_FIRST = ONEDNN and torch.backends.cpu.get_cpu_capability() == "AVX512"  # of the products in float32
ONEDNN_BFLOAT16 = ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # AVX-512 and the like


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, rectify: bool = False) -> Tensor:
    """N linear layers (and a ReLU if `rectify`): weight [N, outputs, inputs], bias [N, outputs] -> [N, B, outputs].

    Rows x [B, inputs] are read by all layers, rows [N, B, inputs] each by their own.
    """
    if x.dim() == 2:
        return wide(x, weight, bias, rectify=rectify)  # [N, B, outputs]
    turned = weight.transpose(1, 2)  # [N, inputs, outputs]
    y = torch.bmm(x, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, turned)
    return y.relu_() if rectify else y  # [N, B, outputs]


def wide(x: Tensor, weight: Tensor, bias: Tensor | None, *, rectify: bool) -> Tensor:
    """N linear layers (and a ReLU if `rectify`) of the same rows in one product.

    x [B, inputs], weight [N, outputs, inputs], bias [N, outputs] -> [N, B, outputs].
    """
    if fast(x, weight) and not torch.is_autocast_enabled("cpu"):
        y: Tensor = _Wide.apply(x, weight, bias, rectify)
        return y
    together = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())  # [B, N * outputs]
    together = together.relu_() if rectify else together
    return together.unflatten(1, weight.shape[:2]).transpose(0, 1)  # [N, B, outputs]


def perceptrons(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """N perceptrons with a ReLU after every layer: weights [N, outputs, inputs], biases [N, outputs] -> [N, B, h].

    Rows x [B, inputs] are read by all, rows [N, B, inputs] each by their own. On a CPU one perceptron after the other
    goes through all its layers: its rows are still in the cache when the next layer reads them. Few rows go layer by
    layer.
    """
    if fast(x, weights[0][0]):
        y: Tensor = _Perceptrons.apply(x, torch.is_autocast_enabled("cpu"), len(weights), *weights, *biases)
        return y
    for weight, bias in zip(weights, biases, strict=True):
        x = linear(x, weight, bias, rectify=True)
    return x


def rectified(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One linear layer and a ReLU, for scoring only (no gradient): x [B, inputs], weight [outputs, inputs]."""
    y = _product(x, weight, bias) if fast(x, weight) else F.linear(x, weight, bias)
    return y.relu_()  # [B, outputs]


def mix(experts: Tensor, weights: Tensor) -> Tensor:
    """Mixtures of experts: [S, K, B, h] (or [1, K, B, h] for all) by weights [S, B, K] -> [S, B, h]."""
    if experts.device.type == "cpu" and (torch.is_grad_enabled() or experts.numel() > FEW):
        y: Tensor = _Mix.apply(experts, weights.to(experts.dtype))
        return y
    return (experts * weights.transpose(1, 2).unsqueeze(3)).sum(dim=1)  # [S, B, h]


def fast(x: Tensor, weight: Tensor) -> bool:
    """Whether the product of rows x [.., B, inputs] by a weight is large: many float32 rows on a CPU.

    A call of oneDNN costs 13 to 45 us before it starts, 3 to 10 times one of MKL's.
    """
    many = x.shape[-2] * weight.numel() > FEW
    return many and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


class _Wide(torch.autograd.Function):
    """`wide`, its gradients by the same products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rectify: bool) -> Tensor:
        flat = None if bias is None else bias.flatten()
        together = _product(x, weight.flatten(0, 1), flat)  # [B, N * outputs]
        together = together.relu_() if rectify else together
        y = together.unflatten(1, weight.shape[:2])  # [B, N, outputs]
        ctx.save_for_backward(x, weight, y if rectify else None)
        return y.transpose(0, 1)  # [N, B, outputs]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        gradient = gradients[0].transpose(0, 1)  # [B, N, outputs]
        if y is None:
            gradient = gradient.contiguous()
        else:  # through the ReLU and into the order of the product in one go
            into = torch.empty_like(y)
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0, grad_input=into)
        together = gradient.flatten(1)  # [B, N * outputs]
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        return (
            _product(together, weight.flatten(0, 1).t()) if of_x else None,  # [B, inputs]
            _product(x.t(), together.t()).t().reshape(weight.shape) if of_weight else None,  # [N, outputs, inputs]
            gradient.sum(dim=0) if of_bias else None,  # [N, outputs]
            None,
        )


class _Perceptrons(torch.autograd.Function):
    """`perceptrons`, one perceptron after the other, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, halved: bool, depth: int, *parameters: Tensor) -> Tensor:
        taken = [p.detach().bfloat16() if halved else p.detach() for p in parameters]
        weights, biases = taken[:depth], taken[depth:]
        rows = x.bfloat16() if halved else x
        outputs = x.new_empty(len(weights[0]), x.shape[-2], weights[-1].shape[1])  # [N, B, h]
        hidden = []  # N times the activations of every layer but the last, each [B, outputs]
        for n, output in enumerate(outputs):
            y = rows if x.dim() == 2 else rows[n]
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                y = _product(y, weight[n], bias[n]).relu_()
                hidden.append(y)
            _product(y, weights[-1][n], biases[-1][n], out=output).relu_()
        ctx.depth, ctx.dtype = depth, x.dtype
        ctx.save_for_backward(rows, outputs, *weights, *hidden)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        depth, needs_x = ctx.depth, ctx.needs_input_grad[0]
        x, outputs, *saved = ctx.saved_tensors
        weights, hidden = saved[:depth], saved[depth:]
        of_weights = [torch.empty_like(weight, dtype=ctx.dtype) for weight in weights]
        of_biases = [weight.new_empty(weight.shape[:2], dtype=ctx.dtype) for weight in weights]
        turned = x.t().contiguous() if x.dim() == 2 and _turns(x) else None  # [inputs, B], once for all
        of_x = x.new_zeros(x.shape, dtype=ctx.dtype) if needs_x else None
        for n, g in enumerate(gradients[0]):
            below = [x if x.dim() == 2 else x[n], *hidden[n * (depth - 1) : (n + 1) * (depth - 1)]]
            above = [*below[1:], outputs[n]]
            for layer in reversed(range(depth)):
                g = torch.ops.aten.threshold_backward(g.contiguous(), above[layer], 0)  # through the ReLU
                torch.sum(g, dim=0, dtype=ctx.dtype, out=of_biases[layer][n])
                g = g.to(x.dtype)
                _outer(g, below[layer], of_weights[layer][n], turned=None if layer else turned)
                if layer:
                    g = _product(g, weights[layer][n].t())
            if of_x is not None:
                _add_product(of_x if x.dim() == 2 else of_x[n], g, weights[0][n])
        return of_x, None, None, *of_weights, *of_biases


class _Mix(torch.autograd.Function):
    """`mix`, expert by expert: what broadcasting makes of its gradient is laid out so that a CPU crawls (seen: 12x)."""

    @staticmethod
    def forward(ctx: Any, experts: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(experts, weights)
        mixtures = experts.new_empty(len(weights), *experts.shape[2:])  # [S, B, h]
        for mixture, of_mixture, share in _by_mixture(mixtures, experts, weights):
            torch.mul(of_mixture[0], share[:, :1], out=mixture)
            for k, expert in enumerate(of_mixture[1:], start=1):
                mixture.addcmul_(expert, share[:, k, None])
        return mixtures

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        experts, weights = ctx.saved_tensors
        of_weights, shared = torch.empty_like(weights), len(experts) < len(weights)
        of_experts = torch.zeros_like(experts) if shared else torch.empty_like(experts)
        of_each = of_experts.expand(len(weights), *experts.shape[1:])
        for s, (gradient, of_mixture, share) in enumerate(_by_mixture(gradients[0], experts, weights)):
            for k, expert in enumerate(of_mixture):
                torch.linalg.vecdot(gradient, expert, out=of_weights[s, :, k])
                if shared:
                    of_each[s, k].addcmul_(gradient, share[:, k, None])
                else:
                    torch.mul(gradient, share[:, k, None], out=of_each[s, k])
        return of_experts, of_weights


def _by_mixture(rows: Tensor, experts: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return zip(rows, experts.expand(len(weights), *experts.shape[1:]), weights, strict=True)


def _outer(gradient: Tensor, rows: Tensor, out: Tensor, *, turned: Tensor | None = None) -> None:
    """The gradient of a weight, sum over the rows b of gradient_b rows_b^T, into `out`.

    Where an operand has to be turned, it is the narrower one, or the rows if they are `turned` already.
    """
    if not _turns(rows):
        torch.mm(gradient.t(), rows, out=out)
    elif turned is None and gradient.shape[1] <= rows.shape[1]:
        out.copy_(_product(gradient.t().contiguous(), rows.t()))  # [outputs, inputs]
    else:
        out.copy_(_product(rows.t().contiguous() if turned is None else turned, gradient.t()).t())


def _add_product(to: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add x W to `to`."""
    if _turns(x):
        to.add_(_product(x, weight.t()))
    else:
        to.addmm_(x, weight)


def _turns(x: Tensor) -> bool:
    """Whether the product of such rows wants its left operand as it lies: oneDNN's, and what imitates bfloat16."""
    return ONEDNN_FIRST or x.dtype == torch.bfloat16


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Give x W^T + bias. Not with the kernel's own ReLU: it makes 0 of NaN, and a broken run would look healthy."""
    if not _turns(x):
        turned = weight.t()
        return torch.mm(x, turned, out=out) if bias is None else torch.addmm(bias, x, turned, out=out)
    if x.dtype == torch.bfloat16 and not ONEDNN_BFLOAT16:
        y = F.linear(x, weight, bias)  # on any processor, slowly
    else:
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y if out is None else out.copy_(y)
