"""The blocks that every network here is made of: embedded features, stacked experts, gates, mixtures, towers.

Public code keeps experts in a list and runs them one after the other. Here all experts of a kind are one
tensor: those that read the same rows start with one wide matrix product, every later layer is one batched
product, and all gates are one product. The numbers are those of the loop, the work of a fraction of the calls.

Letters: B rows, D width of a row's features, N stacked layers (or experts), S mixtures of K experts each,
T tasks with O logits in all (one each, but one per class of a multi-class task), h width of what an expert returns.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cpu_kernels import linear, mix, perceptrons
from models.networks.neighbours import Neighbours

EMBEDDING_DEVIATION = 0.05  # of the initial embeddings; the unit deviation of nn.Embedding drowns the numbers


class Inputs(TypedDict):
    """What a network has to know of its rows: the keywords of FeatureEmbedding, which a network hands on."""

    table_rows: Sequence[int]
    categorical_tables: Sequence[int]
    bag_tables: Sequence[int]
    bag_lengths: Sequence[int]
    numeric: int
    embedding_width: int
    neighbours: NotRequired[int]


class FeatureEmbedding(nn.Module):
    """A row's features side by side: embedded ids, the mean of each bag of ids, and the numbers as they are.

    All embedding tables lie in one `weight` [rows of all tables, width], so that all ids of a batch are one lookup.
    `table_rows` are the rows of each table, `categorical_tables` and
    `bag_tables` the table of each column, `bag_lengths` how many ids each bag has room for, `numeric` how many
    numbers a row has. A bag without ids is zeros. `neighbours` is how many outcomes a training row can have, 0: off;
    with it what user and item met in the training rows stands behind the fields, as two more of them (see
    Neighbours); user and item are then the first two categorical columns.

    >>> embed = FeatureEmbedding(table_rows=(5, 7), categorical_tables=(0, 1, 1), bag_tables=(1,), bag_lengths=(2,),
    ...                          numeric=2, embedding_width=4)
    >>> embed(torch.tensor([[4, 0, 6]]), torch.tensor([[3, -1]]), torch.zeros(1, 2)).shape
    torch.Size([1, 18])
    """

    offsets: Tensor
    bag_offsets: Tensor

    def __init__(
        self,
        *,
        table_rows: Sequence[int],
        categorical_tables: Sequence[int],
        bag_tables: Sequence[int],
        bag_lengths: Sequence[int],
        numeric: int,
        embedding_width: int,
        neighbours: int = 0,
    ) -> None:
        super().__init__()
        _check_tables(len(table_rows), [*categorical_tables, *bag_tables])
        starts = [0, *accumulate(table_rows)]
        self.bag_lengths, self.sparse = list(bag_lengths), False  # see models/networks/sparse_embeddings.py
        self.fields = len(categorical_tables) + len(bag_lengths) + (2 if neighbours else 0)
        self.width = self.fields * embedding_width + numeric
        self.weight = nn.Parameter(torch.randn(starts[-1], embedding_width) * EMBEDDING_DEVIATION)
        places = [starts[table] for table, length in zip(bag_tables, bag_lengths, strict=True) for _ in range(length)]
        self.register_buffer("offsets", _integers(starts[table] for table in categorical_tables), persistent=False)
        self.register_buffer("bag_offsets", _integers(places), persistent=False)
        self.neighbours: Neighbours | None = None
        if neighbours:
            users, items = (table_rows[table] for table in categorical_tables[:2])
            self.neighbours = Neighbours(users=users, items=items, outcomes=neighbours, width=embedding_width)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor) -> Tensor:
        """Ids [B, F] in their tables, bag ids [B, L] padded with -1, numbers [B, P] -> [B, D]."""
        ids = torch.cat([categorical + self.offsets, bags.clamp(min=0) + self.bag_offsets], dim=1)  # [B, F + L]
        embedded = F.embedding(ids, self.weight, sparse=self.sparse)  # [B, F + L, E]
        single, several = embedded.tensor_split([categorical.shape[1]], dim=1)
        met = [] if self.neighbours is None else [self.neighbours(categorical[:, 0], categorical[:, 1])]  # [B, 2E]
        return torch.cat([single.flatten(1), *self._means(several, bags >= 0), *met, numeric], dim=1)  # [B, D]

    def _means(self, embedded: Tensor, present: Tensor) -> list[Tensor]:
        masked = embedded * present.unsqueeze(2)  # [B, L, E]
        counts = [part.sum(dim=1, keepdim=True).clamp(min=1) for part in present.split(self.bag_lengths, dim=1)]
        return [part.sum(dim=1) / n for part, n in zip(masked.split(self.bag_lengths, dim=1), counts, strict=True)]


class StackedLinear(nn.Module):
    """N linear layers of the same shape as one: `weight` [N, outputs, inputs], `bias` [N, outputs].

    Each layer starts as nn.Linear does; `rectify` puts a ReLU after it. Rows [B, inputs] are read by all layers (one
    wide product); rows [N, B, inputs] are each read by their own (one batched product).

    >>> layers = StackedLinear(stack=3, inputs=4, outputs=2)
    >>> layers(torch.zeros(5, 4)).shape, layers(torch.zeros(3, 5, 4)).shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5, 2]))
    """

    def __init__(self, *, stack: int, inputs: int, outputs: int, bias: bool = True, rectify: bool = False) -> None:
        super().__init__()
        self.rectify = rectify
        bound = inputs**-0.5  # what nn.Linear's kaiming_uniform_(a=5 ** 0.5) comes to
        self.weight = nn.Parameter(torch.empty(stack, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(stack, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, inputs] or [N, B, inputs] -> [N, B, outputs]."""
        return linear(x, self.weight, self.bias, rectify=self.rectify)


class StackedLogits(StackedLinear):
    """N linear layers of which each has its own number of outputs: all as wide as the widest, what is over left out.

    >>> StackedLogits(inputs=4, outputs=(1, 3))(torch.zeros(2, 5, 4)).shape
    torch.Size([4, 5])
    """

    kept: Tensor | None

    def __init__(self, *, inputs: int, outputs: Sequence[int]) -> None:
        wide = max(outputs)
        super().__init__(stack=len(outputs), inputs=inputs, outputs=wide)
        kept = [layer * wide + place for layer, count in enumerate(outputs) for place in range(count)]
        self.register_buffer("kept", _integers(kept) if len(kept) < len(outputs) * wide else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, B, inputs], each read by its own layer -> [sum of outputs, B]."""
        logits = super().forward(x).transpose(1, 2).flatten(0, 1)  # [N * wide, B]
        return logits if self.kept is None else logits.index_select(0, self.kept)


class StackedNorm(nn.Module):
    """N layer normalizations (J. Ba et al., 2016), each with a scale and a shift of its own, and a ReLU.

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
    """N perceptrons of the same shape, a ReLU after every layer; `normalize` puts a layer normalization before it.

    >>> StackedExperts(experts=6, inputs=10, units=(8, 4))(torch.zeros(5, 10)).shape
    torch.Size([6, 5, 4])
    """

    def __init__(self, *, experts: int, inputs: int, units: Sequence[int], normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        layers: list[nn.Module] = []
        for i, o in zip([inputs, *units], units, strict=False):
            layers.append(StackedLinear(stack=experts, inputs=i, outputs=o, rectify=not normalize))
            layers += [StackedNorm(stack=experts, width=o)] if normalize else []
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, D], the same for all experts, or [N, B, D], each expert's own -> [N, B, h]."""
        if self.normalize:
            return self.layers(x)
        layers = [layer for layer in self.layers if isinstance(layer, StackedLinear)]
        return perceptrons(x, [layer.weight for layer in layers], [layer.bias for layer in layers])


class Gates(nn.Module):
    """S gates that read the same rows: softmax over the K experts of each mixture, of linear logits.

    With `detach` the rows learn nothing from the gates: no gradient goes through.

    >>> Gates(mixtures=2, experts=3, inputs=4)(torch.zeros(5, 4))[0, 0].tolist()
    [0.3333333432674408, 0.3333333432674408, 0.3333333432674408]
    """

    def __init__(self, *, mixtures: int, experts: int, inputs: int, detach: bool = False) -> None:
        super().__init__()
        self.detach = detach
        self.logits = StackedLinear(stack=mixtures, inputs=inputs, outputs=experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, D], or [S, B, D] with rows of its own for each gate -> weights [S, B, K] that sum to 1 over K."""
        logits = self.logits(x.detach() if self.detach else x)
        by_expert = logits.transpose(1, 2).contiguous()  # [S, K, B]: over a last axis of few a CPU crawls
        return by_expert.softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32)).transpose(1, 2)


class StackedTowers(nn.Module):
    """One tower per (scenario, task), or per task for all scenarios; a row leaves by its own scenario's.

    `scenarios` is how many sets of towers there are: 1 shares them. `task_outputs` are the logits of each task (O in
    all); without it every task has one (O = T).

    >>> StackedTowers(scenarios=3, tasks=2, inputs=4, units=(8,))(torch.zeros(2, 5, 4), torch.zeros(5).long()).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        inputs: int,
        units: Sequence[int],
        normalize: bool = False,
        task_outputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.scenarios = scenarios
        self.hidden = StackedExperts(experts=scenarios * tasks, inputs=inputs, units=units, normalize=normalize)
        self.logits = StackedLogits(inputs=units[-1], outputs=outputs_of(tasks, task_outputs) * scenarios)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """Rows of each task [T, B, h] and the rows' scenarios [B] -> logits [B, O]."""
        if self.scenarios == 1:
            return self.logits(self.hidden(x)).t()  # [B, O]
        x = x.repeat(self.scenarios, 1, 1)  # [M * T, B, h]
        logits = self.logits(self.hidden(x)).unflatten(0, (self.scenarios, -1))  # [M, O, B]
        return own(logits.transpose(1, 2), scenario)  # [B, O]


def outputs_of(tasks: int, task_outputs: Sequence[int] | None) -> tuple[int, ...]:
    """How many logits each task has: one, unless `task_outputs` says otherwise; raises ValueError if it cannot."""
    outputs = (1,) * tasks if task_outputs is None else tuple(task_outputs)
    if len(outputs) != tasks or min(outputs) < 1:
        raise ValueError(f"task_outputs must be {tasks} numbers from 1, one for each task, but is {outputs}")
    return outputs


def mix_own(experts: Tensor, weights: Tensor, each: int) -> Tensor:
    """Mixtures of experts of their own and of experts that all share: [S, B, h].

    `experts` [S * P + Q, B, h]: the P (`each`) of every mixture, then the Q shared ones; `weights` [S, B, P + Q].
    """
    specific, shared = experts.tensor_split([len(weights) * each])
    specific = specific.unflatten(0, (len(weights), each))  # [S, P, B, h]
    of_own, of_all = weights.tensor_split([each], dim=2)
    return mix(specific, of_own) + mix(shared.unsqueeze(0), of_all)  # [S, B, h]


def own(values: Tensor, scenario: Tensor) -> Tensor:
    """Of what each scenario makes of a row [M, B, h], the part of the row's own scenario [B] -> [B, h]."""
    scenarios, rows, _ = values.shape
    place = scenario * rows + torch.arange(rows, device=scenario.device)  # [B]
    return values.reshape(scenarios * rows, -1).index_select(0, place)  # [B, h]


def _check_tables(tables: int, used: Sequence[int]) -> None:
    wrong = sorted({table for table in used if not 0 <= table < tables})
    if wrong:
        raise ValueError(f"columns ask for embedding tables {wrong}, but table_rows declares tables 0 to {tables - 1}")


def _integers(values: Iterable[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32)
