"""The machine's limit: the matrix products of a network's step, without anything between them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.training.timing import median_seconds
from models.networks.cpu_kernels import ONEDNN
from models.networks.feature_embedding import FeatureEmbedding
from models.networks.layers import StackedLinear


def all_products(network: nn.Module, batch: int, rounds: int) -> Callable[[], None]:
    """A function that runs all matrix products of a step: forward, gradient of the rows, gradient of the weights.

    Products of a shape read the same operands, each in the layout that its kernel prefers.
    """
    shapes = [module.weight.shape for module in network.modules() if isinstance(module, StackedLinear)]
    of_shape = {shape[1:]: products_of_shape(batch, shape[2], shape[1], rounds) for shape in set(shapes)}
    calls = [call for shape in shapes for call in of_shape[shape[1:]] * shape[0]]

    def run() -> None:
        for call in calls:
            call()

    return run


def products_of_shape(batch: int, inputs: int, outputs: int, rounds: int) -> list[Callable[[], Tensor]]:
    """The products y = x W, dx = dy W^T and dW = x^T dy of one layer, each by the faster kernel."""
    x, dy, weight = torch.randn(batch, inputs), torch.randn(batch, outputs), torch.randn(inputs, outputs)
    operands = ((x, weight), (dy, weight.t().contiguous()), (x.t().contiguous(), dy))
    fastest = []
    for a, b in operands:
        kernels = _kernels(a, b)
        seconds = median_seconds(kernels, max(rounds, 5))
        fastest.append(kernels[min(seconds, key=lambda name: seconds[name])])
    return fastest


def dense_parameters(network: nn.Module) -> int:
    """Parameters without the embeddings: a row costs about 6 operations for each, forward and backward."""
    embeddings = sum(module.weight.numel() for module in network.modules() if isinstance(module, FeatureEmbedding))
    return sum(parameter.numel() for parameter in network.parameters()) - embeddings


def _kernels(a: Tensor, b: Tensor) -> dict[str, Callable[[], Tensor]]:
    transposed = b.t().contiguous()
    kernels: dict[str, Callable[[], Tensor]] = {"mm": lambda: a @ b}
    if ONEDNN:
        kernels["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(a, transposed, None, "none", [], "")
    return kernels
