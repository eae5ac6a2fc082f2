"""CPU kernels of stacked linear layers: each product runs in the library that computes it fastest.

On a CPU with AVX-512 large products are oneDNN's: MKL's do half as well on processors that are not Intel's (seen: 245
against 95 GFLOP/s on one core of an EPYC, bfloat16 470). Without AVX-512 MKL's are as good, write into a given output,
and need no transposed operand. Elsewhere the products are torch's, one batched product per layer. Torch has oneDNN's
products for inference only, so their gradients are written out here. Under torch.autocast the products are bfloat16's
and return float32.

Letters: B rows, N stacked layers (or multi-layer perceptrons), S mixtures of K experts, h width of an expert's output.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL_PRODUCT = 1_500_000  # multiplications: up to here the start of a oneDNN call costs more than it saves
ONEDNN_AVAILABLE = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
ONEDNN = ONEDNN_AVAILABLE and hasattr(torch.ops.mkldnn, "_linear_pointwise")
PREFER_ONEDNN = ONEDNN and torch.backends.cpu.get_cpu_capability() == "AVX512"  # for products in float32
ONEDNN_BFLOAT16 = ONEDNN and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # AVX-512 and the like


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """N linear layers (and a ReLU if `relu`): weight [N, outputs, inputs], bias [N, outputs] -> [N, B, outputs].

    Rows x [B, inputs] are read by all layers, rows [N, B, inputs] each by their own.
    """
    if x.dim() == 2:
        return wide_linear(x, weight, bias, relu=relu)  # [N, B, outputs]
    transposed = weight.transpose(1, 2)  # [N, inputs, outputs]
    y = torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, transposed)
    return y.relu_() if relu else y  # [N, B, outputs]


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
    """N linear layers (and a ReLU if `relu`) of the same rows in one product.

    x [B, inputs], weight [N, outputs, inputs], bias [N, outputs] -> [N, B, outputs].
    """
    if is_large_product(x, weight) and not torch.is_autocast_enabled("cpu"):
        y: Tensor = _WideLinear.apply(x, weight, bias, relu)  # type: ignore[no-untyped-call]
        return y
    flat = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())  # [B, N * outputs]
    flat = flat.relu_() if relu else flat
    return torch.unflatten(flat, 1, weight.shape[:2]).transpose(0, 1)  # [N, B, outputs]


def stacked_mlps(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """N multi-layer perceptrons with a ReLU after every layer -> [N, B, h].

    The layers have weights [N, outputs, inputs] and biases [N, outputs]. Rows x [B, inputs] are read by all
    perceptrons, rows [N, B, inputs] each by their own. On a CPU many rows go through one perceptron after the other,
    through all its layers: they are still in the cache when the next layer reads them. Few rows go layer by layer.
    """
    if is_large_product(x, weights[0][0]):
        autocast = torch.is_autocast_enabled("cpu")
        y: Tensor = _StackedMLPs.apply(x, autocast, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]
        return y
    for weight, bias in zip(weights, biases, strict=True):
        x = stacked_linear(x, weight, bias, relu=True)
    return x


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One linear layer and a ReLU without a gradient: x [B, inputs], weight [outputs, inputs] -> [B, outputs]."""
    y = _linear(x, weight, bias) if is_large_product(x, weight) else F.linear(x, weight, bias)
    return y.relu_()  # [B, outputs]


def mix_experts(experts: Tensor, weights: Tensor) -> Tensor:
    """Mixtures of experts: [S, K, B, h] (or [1, K, B, h] for all) with weights [S, B, K] -> [S, B, h]."""
    on_cpu = experts.device.type == "cpu" and not torch.compiler.is_exporting()
    if on_cpu and (torch.is_grad_enabled() or experts.numel() > SMALL_PRODUCT):
        y: Tensor = _MixExperts.apply(experts, weights.to(experts.dtype))  # type: ignore[no-untyped-call]
        return y
    return (experts * weights.transpose(1, 2).unsqueeze(3)).sum(dim=1)  # [S, B, h]


def is_large_product(x: Tensor, weight: Tensor) -> bool:
    """Whether the product of rows x [.., B, inputs] and a weight is large: many float32 rows on a CPU.

    A call of oneDNN costs 13 to 45 us before it starts, 3 to 10 times one of MKL's. A network that is being exported
    has no number of rows yet, and leaves the kernel to whoever runs it: none of its products is large.
    """
    if torch.compiler.is_exporting():
        return False
    large = x.shape[-2] * weight.numel() > SMALL_PRODUCT
    return large and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


class _WideLinear(torch.autograd.Function):
    """`wide_linear`; its gradients are computed by the same kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        flat_bias = None if bias is None else bias.flatten()
        flat = _linear(x, weight.flatten(0, 1), flat_bias)  # [B, N * outputs]
        flat = flat.relu_() if relu else flat
        y = torch.unflatten(flat, 1, weight.shape[:2])  # [B, N, outputs]
        ctx.save_for_backward(x, weight, y if relu else None)
        return y.transpose(0, 1)  # [N, B, outputs]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        gradient = gradients[0].transpose(0, 1)  # [B, N, outputs]
        if y is None:
            gradient = gradient.contiguous()
        else:  # through the ReLU and into the order of the product in one pass
            contiguous = torch.empty_like(y)
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0, grad_input=contiguous)
        flat = gradient.flatten(1)  # [B, N * outputs]
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            _linear(flat, weight.flatten(0, 1).t()) if needs_x else None,  # [B, inputs]
            _linear(x.t(), flat.t()).t().reshape(weight.shape) if needs_weight else None,  # [N, outputs, inputs]
            gradient.sum(dim=0) if needs_bias else None,  # [N, outputs]
            None,
        )


class _StackedMLPs(torch.autograd.Function):
    """`stacked_mlps`, one perceptron after the other, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bfloat16: bool, depth: int, *parameters: Tensor) -> Tensor:
        values = [p.detach().bfloat16() if bfloat16 else p.detach() for p in parameters]
        weights, biases = values[:depth], values[depth:]
        rows = x.bfloat16() if bfloat16 else x
        outputs = x.new_empty(len(weights[0]), x.shape[-2], weights[-1].shape[1])  # [N, B, h]
        hidden = []  # N times the activations of every layer but the last, each [B, outputs]
        for n, output in enumerate(outputs):
            y = rows if x.dim() == 2 else rows[n]
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                y = _linear(y, weight[n], bias[n]).relu_()
                hidden.append(y)
            _linear(y, weights[-1][n], biases[-1][n], out=output).relu_()
        ctx.depth, ctx.dtype = depth, x.dtype
        ctx.save_for_backward(rows, outputs, *weights, *hidden)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        depth, needs_x = ctx.depth, ctx.needs_input_grad[0]
        x, outputs, *saved = ctx.saved_tensors
        weights, hidden = saved[:depth], saved[depth:]
        grad_weights = [torch.empty_like(weight, dtype=ctx.dtype) for weight in weights]
        grad_biases = [weight.new_empty(weight.shape[:2], dtype=ctx.dtype) for weight in weights]
        transposed = x.t().contiguous() if x.dim() == 2 and _uses_onednn(x) else None  # [inputs, B], once for all
        grad_x = x.new_zeros(x.shape, dtype=ctx.dtype) if needs_x else None
        for n, g in enumerate(gradients[0]):
            below = [x if x.dim() == 2 else x[n], *hidden[n * (depth - 1) : (n + 1) * (depth - 1)]]
            above = [*below[1:], outputs[n]]
            for layer in reversed(range(depth)):
                g = torch.ops.aten.threshold_backward(g.contiguous(), above[layer], 0)  # through the ReLU
                torch.sum(g, dim=0, dtype=ctx.dtype, out=grad_biases[layer][n])
                g = g.to(x.dtype)
                _weight_gradient(g, below[layer], grad_weights[layer][n], transposed=None if layer else transposed)
                if layer:
                    g = _linear(g, weights[layer][n].t())
            if grad_x is not None:
                _add_product(grad_x if x.dim() == 2 else grad_x[n], g, weights[0][n])
        return grad_x, None, None, *grad_weights, *grad_biases


class _MixExperts(torch.autograd.Function):
    """`mix_experts`, expert by expert: the gradient of the broadcast product is laid out badly (seen: 12x slower)."""

    @staticmethod
    def forward(ctx: Any, experts: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(experts, weights)
        mixtures = experts.new_empty(len(weights), *experts.shape[2:])  # [S, B, h]
        for mixture, members, gate in _by_mixture(mixtures, experts, weights):
            torch.mul(members[0], gate[:, :1], out=mixture)
            for k, expert in enumerate(members[1:], start=1):
                mixture.addcmul_(expert, gate[:, k, None])
        return mixtures

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        experts, weights = ctx.saved_tensors
        grad_weights, shared = torch.empty_like(weights), len(experts) < len(weights)
        grad_experts = torch.zeros_like(experts) if shared else torch.empty_like(experts)
        by_mixture = grad_experts.expand(len(weights), *experts.shape[1:])
        for s, (gradient, members, gate) in enumerate(_by_mixture(gradients[0], experts, weights)):
            for k, expert in enumerate(members):
                torch.linalg.vecdot(gradient, expert, out=grad_weights[s, :, k])
                if shared:
                    by_mixture[s, k].addcmul_(gradient, gate[:, k, None])
                else:
                    torch.mul(gradient, gate[:, k, None], out=by_mixture[s, k])
        return grad_experts, grad_weights


def _by_mixture(rows: Tensor, experts: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each of the S mixtures: its rows [B, h], its experts [K, B, h], its gate's weights [B, K]."""
    return zip(rows, experts.expand(len(weights), *experts.shape[1:]), weights, strict=True)


def _weight_gradient(gradient: Tensor, rows: Tensor, out: Tensor, *, transposed: Tensor | None = None) -> None:
    """Write the gradient of a weight, sum over the rows b of gradient_b rows_b^T, into `out`.

    Where an operand must be transposed, it is the narrower one, or the rows if they are `transposed` already.
    """
    if not _uses_onednn(rows):
        torch.mm(gradient.t(), rows, out=out)
    elif transposed is None and gradient.shape[1] <= rows.shape[1]:
        out.copy_(_linear(gradient.t().contiguous(), rows.t()))  # [outputs, inputs]
    else:
        out.copy_(_linear(rows.t().contiguous() if transposed is None else transposed, gradient.t()).t())


def _add_product(total: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add x W to `total`."""
    if _uses_onednn(x):
        total.add_(_linear(x, weight.t()))
    else:
        total.addmm_(x, weight)


def _uses_onednn(x: Tensor) -> bool:
    """Whether products of these rows run in oneDNN (or emulate bfloat16), which wants a contiguous left operand."""
    return PREFER_ONEDNN or x.dtype == torch.bfloat16


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return x W^T + bias. The kernel's own ReLU is not used: it turns NaN into 0 and would hide a broken run."""
    if not _uses_onednn(x):
        transposed = weight.t()
        return torch.mm(x, transposed, out=out) if bias is None else torch.addmm(bias, x, transposed, out=out)
    if x.dtype == torch.bfloat16 and not ONEDNN_BFLOAT16:
        y = F.linear(x, weight, bias)  # on any processor, slowly
    else:
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y if out is None else out.copy_(y)
