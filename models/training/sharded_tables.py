"""Embedding tables of which each process holds some of the rows, so that no device has to hold all of them.

Rows are divided by torch's DTensor, as its RowwiseParallel does it: the ids of all processes are gathered, each looks
up the rows that it has, and the sums of these go back to the process whose ids they are. Backward the same way: a
process has the whole gradient of its rows, and the optimizer and the average of the weights hold what belongs to them.

Letters: R rows of a table, E width of an embedding, B rows of a share, C ids of a row.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.feature_embedding import FeatureEmbedding
from models.training.distributed import Group

if TYPE_CHECKING:  # half a second of imports, for a run that divides its tables
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

ADAM_STATE = ("exp_avg", "exp_avg_sq")  # what Adam holds for every row


class TableShard:
    """Which rows of a table [R, E] each process has: as many as any other, the last ones fewer."""

    def __init__(self, mesh: "DeviceMesh", shape: torch.Size) -> None:
        self.mesh, self.shape = mesh, shape

    def __deepcopy__(self, memo: dict[int, Any]) -> "TableShard":
        """Itself: the copy of a network has tables that are divided in the same way."""
        return self

    def __call__(self, ids: Tensor, weight: Tensor) -> Tensor:
        """Ids [B, C] of this process, and its rows of the table -> embeddings [B, C, E]; all processes take part."""
        from torch.distributed.tensor import DTensor, Replicate, Shard

        most = torch.tensor([len(ids)], device=ids.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        padded = F.pad(ids, (0, 0, 0, int(most) - len(ids)))
        own = DTensor.from_local(padded, self.mesh, [Shard(0)], run_check=False)
        embedded = F.embedding(own.redistribute(placements=[Replicate()]), self.distributed(weight))
        local: Tensor = embedded.redistribute(placements=[Shard(0)]).to_local()  # type: ignore[attr-defined]
        return local[: len(ids)]

    def rows(self, rank: int) -> slice:
        """The rows of the process with this rank."""
        step = -(-self.shape[0] // self.mesh.size())
        return slice(min(rank * step, self.shape[0]), min((rank + 1) * step, self.shape[0]))

    def distributed(self, local: Tensor) -> "DTensor":
        """The rows of this process as a part of the whole table."""
        from torch.distributed.tensor import DTensor, Shard

        strides = (self.shape[1], 1)
        return DTensor.from_local(local, self.mesh, [Shard(0)], run_check=False, shape=self.shape, stride=strides)

    def whole(self, local: Tensor, *, keep: bool) -> Tensor | None:
        """The whole table [R, E] on the CPU where it is kept, from the rows of all processes, one after the other."""
        table = torch.empty(self.shape, dtype=local.dtype) if keep else None
        for rank in range(self.mesh.size()):
            rows = self.rows(rank)
            own = rank == self.mesh.get_local_rank()
            piece = local.detach().contiguous() if own else local.new_empty(rows.stop - rows.start, self.shape[1])
            dist.broadcast(piece, rank)
            if table is not None:
                table[rows] = piece.cpu()
        return table


def shard_tables(network: nn.Module, group: Group, device: torch.device) -> None:
    """Leave each of several processes its rows of the network's tables, where it has all of them."""
    for module in _embeddings(network):
        if group.size > 1 and module.lookup is None:
            shard = TableShard(_mesh(device.type, group.size), module.weight.shape)
            module.weight = nn.Parameter(module.weight.detach()[shard.rows(group.rank)].clone())
            module.lookup = shard


def gather_tables(network: nn.Module, group: Group) -> None:
    """Give the main process the whole tables, on the CPU; all processes take part, the others keep their rows."""
    for module in _embeddings(network):
        if isinstance(module.lookup, TableShard):
            whole = module.lookup.whole(module.weight, keep=group.is_main)
            if whole is not None:
                module.weight, module.lookup = nn.Parameter(whole), None


def by_sharding(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that all processes have, and those of which each has its own rows."""
    sharded = [module.weight for module in _embeddings(network) if module.lookup is not None]
    own = {id(parameter) for parameter in sharded}
    return [parameter for parameter in network.parameters() if id(parameter) not in own], sharded


def sharded_norm(replicated: Sequence[nn.Parameter], sharded: Sequence[nn.Parameter], group: Group) -> Tensor:
    """The norm of all gradients, the same bits in all processes."""
    rest, rows = ([p.grad for p in part if p.grad is not None] for part in (replicated, sharded))
    squares = group.sum(nn.utils.get_total_norm(rows).square())
    return (nn.utils.get_total_norm(rest).square() + squares).sqrt()


def shards_of(network: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, TableShard]:
    """Which of TrainState.tensors are rows of this process only, by name."""
    shards: dict[str, TableShard] = {}
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    for name, module in network.named_modules():
        if isinstance(module, FeatureEmbedding) and isinstance(module.lookup, TableShard):
            weight = f"{name}.weight" if name else "weight"
            number = next(i for i, parameter in enumerate(parameters) if parameter is module.weight)
            names = [f"{part}/{weight}" for part in ("network", "average", "best")]
            shards |= dict.fromkeys([*names, *(f"adam0/{number}/{state}" for state in ADAM_STATE)], module.lookup)
    return shards


@functools.cache
def _mesh(device: str, size: int) -> "DeviceMesh":
    """All processes in one row."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (size,))


def _embeddings(network: nn.Module) -> list[FeatureEmbedding]:
    return [module for module in network.modules() if isinstance(module, FeatureEmbedding)]
