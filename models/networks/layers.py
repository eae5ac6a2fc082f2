"""The stacked layers of which every network here is made: linear layers, experts, gates, towers.

Public code keeps experts in a list and runs them one after the other. Here all experts of a kind are one tensor: those
that read the same rows start with one wide matrix product, every later layer is one batched product, and all gates are
one product. The results are those of the list, for a fraction of the calls.

Letters: B rows, D width of a row's features, N stacked layers (or experts), S mixtures of K experts each, M scenarios,
T tasks with O logits in all (one each, but one per class of a multi-class task), h width of an expert's output.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cpu_kernels import mix_experts, stacked_linear, stacked_mlps


class StackedLinear(nn.Module):
    """N linear layers of the same shape as one: `weight` [N, outputs, inputs], `bias` [N, outputs].

    Each layer is initialised as nn.Linear is; `relu` adds a ReLU. Rows [B, inputs] are read by all layers (one wide
    product); rows [N, B, inputs] are each read by their own layer (one batched product).

    >>> layers = StackedLinear(stack=3, inputs=4, outputs=2)
    >>> layers(torch.zeros(5, 4)).shape, layers(torch.zeros(3, 5, 4)).shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5, 2]))
    """

    def __init__(self, *, stack: int, inputs: int, outputs: int, bias: bool = True, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        bound = inputs**-0.5  # the bound of nn.Linear's kaiming_uniform_(a=5 ** 0.5)
        self.weight = nn.Parameter(torch.empty(stack, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(stack, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, inputs] or [N, B, inputs] -> [N, B, outputs]."""
        return stacked_linear(x, self.weight, self.bias, relu=self.relu)


class StackedLogits(StackedLinear):
    """N linear layers with different numbers of outputs: all as wide as the widest, surplus outputs left out.

    >>> StackedLogits(inputs=4, outputs=(1, 3))(torch.zeros(2, 5, 4)).shape
    torch.Size([4, 5])
    """

    kept: Tensor | None

    def __init__(self, *, inputs: int, outputs: Sequence[int]) -> None:
        super().__init__(stack=len(outputs), inputs=inputs, outputs=max(outputs))
        self.register_buffer("kept", kept_outputs(outputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, B, inputs], each read by its own layer -> [sum of outputs, B]."""
        logits = super().forward(x).transpose(1, 2).flatten(0, 1)  # [N * widest, B]
        return logits if self.kept is None else logits.index_select(0, self.kept)


class StackedNorm(nn.Module):
    """N layer normalisations (J. Ba et al., 2016), each with its own scale and shift, and a ReLU.

    >>> StackedNorm(stack=3, width=4)(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 4])
    """

    def __init__(self, *, stack: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(stack, width))
        self.bias = nn.Parameter(torch.zeros(stack, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, B, width] -> the same shape; each row of each layer has mean 0 and deviation 1 before scale and shift."""
        normal = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias.unsqueeze(1), normal, self.weight.unsqueeze(1)).relu_()  # [N, B, width]


class StackedExperts(nn.Module):
    """N perceptrons of the same shape, a ReLU after every layer; `normalize` adds a layer normalisation before it.

    >>> StackedExperts(experts=6, inputs=10, units=(8, 4))(torch.zeros(5, 10)).shape
    torch.Size([6, 5, 4])
    """

    def __init__(self, *, experts: int, inputs: int, units: Sequence[int], normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        layers: list[nn.Module] = []
        for i, o in zip([inputs, *units], units, strict=False):
            layers.append(StackedLinear(stack=experts, inputs=i, outputs=o, relu=not normalize))
            layers += [StackedNorm(stack=experts, width=o)] if normalize else []
        self.layers = nn.Sequential(*layers)

    def linear_layers(self) -> list[StackedLinear]:
        """The linear layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, StackedLinear)]

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, D], the same for all experts, or [N, B, D], each expert's own -> [N, B, h]."""
        if self.normalize:
            y: Tensor = self.layers(x)
            return y
        layers = self.linear_layers()
        return stacked_mlps(x, [layer.weight for layer in layers], [layer.bias for layer in layers])


class Gates(nn.Module):
    """S gates that read the same rows: softmax over the K experts of each mixture, of linear logits.

    With `detach` no gradient flows through the gates to the rows.

    >>> Gates(mixtures=2, experts=3, inputs=4)(torch.zeros(5, 4))[0, 0].tolist()
    [0.3333333432674408, 0.3333333432674408, 0.3333333432674408]
    """

    def __init__(self, *, mixtures: int, experts: int, inputs: int, detach: bool = False) -> None:
        super().__init__()
        self.detach = detach
        self.logits = StackedLinear(stack=mixtures, inputs=inputs, outputs=experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, D], or [S, B, D] with each gate's own rows -> weights [S, B, K] that sum to 1 over K."""
        logits: Tensor = self.logits(x.detach() if self.detach else x)
        by_expert = logits.transpose(1, 2).contiguous()  # [S, K, B]: over a short last axis a CPU is slow
        weights = by_expert.softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
        return weights.transpose(1, 2)  # [S, B, K]


class StackedTowers(nn.Module):
    """One tower per (scenario, task), or per task for all scenarios; a row's logits are its own scenario's.

    `scenarios` is the number of sets of towers: 1 shares them. `task_outputs` are the logits of each task, O in all.

    >>> towers = StackedTowers(scenarios=3, inputs=4, units=(8,), task_outputs=(1, 1))
    >>> towers(torch.zeros(2, 5, 4), torch.zeros(5).long()).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        inputs: int,
        units: Sequence[int],
        task_outputs: Sequence[int],
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.scenarios, towers = scenarios, scenarios * len(task_outputs)
        self.hidden = StackedExperts(experts=towers, inputs=inputs, units=units, normalize=normalize)
        self.logits = StackedLogits(inputs=units[-1], outputs=tuple(task_outputs) * scenarios)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """Rows of each task [T, B, h] and the rows' scenarios [B] -> logits [B, O]."""
        if self.scenarios == 1:
            shared: Tensor = self.logits(self.hidden(x)).t()  # [B, O]
            return shared
        x = x.repeat(self.scenarios, 1, 1)  # [M * T, B, h]
        logits = torch.unflatten(self.logits(self.hidden(x)), 0, (self.scenarios, -1))  # [M, O, B]
        return own_scenario(logits.transpose(1, 2), scenario)  # [B, O]


def mix_specific_and_shared(experts: Tensor, weights: Tensor, specific: int) -> Tensor:
    """Mixtures of experts that belong to one mixture and experts that all mixtures share: [S, B, h].

    `experts` [S * P + Q, B, h]: the P (`specific`) of every mixture, then the Q shared ones; `weights` [S, B, P + Q].
    """
    own, shared = experts.tensor_split([len(weights) * specific])  # [S * P, B, h], [Q, B, h]
    own = torch.unflatten(own, 0, (len(weights), specific))  # [S, P, B, h]
    own_weights, shared_weights = weights.tensor_split([specific], dim=2)  # [S, B, P], [S, B, Q]
    return mix_experts(own, own_weights) + mix_experts(shared.unsqueeze(0), shared_weights)  # [S, B, h]


def kept_outputs(outputs: Sequence[int]) -> Tensor | None:
    """Indices of the outputs that count where every layer is as wide as the widest; None where all are as wide.

    >>> kept_outputs((1, 3))
    tensor([0, 3, 4, 5], dtype=torch.int32)
    """
    widest = max(outputs)
    kept = [layer * widest + output for layer, count in enumerate(outputs) for output in range(count)]
    return torch.tensor(kept, dtype=torch.int32) if len(kept) < len(outputs) * widest else None


def own_scenario(values: Tensor, scenario: Tensor) -> Tensor:
    """Of the values that each scenario has for a row [M, B, h], those of the row's own scenario [B] -> [B, h]."""
    scenarios, rows, _ = values.shape
    index = scenario * rows + torch.arange(rows, device=scenario.device)  # [B]
    return values.reshape(scenarios * rows, -1).index_select(0, index)  # [B, h]
