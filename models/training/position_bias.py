"""The bias of the position at which an impression was shown: learned beside a network, and left out when it is served.

Users click what is on top because it is on top. A shallow part of the model takes this on itself: its logits are added
to the network's in training, so that the network learns what remains, and left out in scoring, where no position is
known yet. Z. Zhao et al., Recommending What Video to Watch Next: A Multitask Ranking System, RecSys 2019. As there, the
position is dropped at random in training: those rows have the network alone explain the label, at an average position.
Validation rows are scored with their position, since their labels were made with it: without it the epoch that is
chosen would be the one that has learned the bias best.

Letters: B rows, M scenarios, O logits, P positions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.encoding.positions import NO_POSITION, POSITIONS
from features.encoding.tensors import Tensors
from features.schema import Task
from models.training.batches import Draws

DROPPED = 0.1  # share of the rows of a training step that do not know their position


class PositionBias(nn.Module):
    """A logit for each position and output, of all scenarios and of each: both are 0 at first.

    >>> PositionBias(scenarios=3, outputs=2)(torch.tensor([0, 2]), torch.tensor([5, -1]))
    tensor([[0., 0.],
            [0., 0.]], grad_fn=<MulBackward0>)
    """

    def __init__(self, *, scenarios: int, outputs: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(POSITIONS, outputs))
        self.own = nn.Parameter(torch.zeros(scenarios * POSITIONS, outputs))

    def forward(self, scenario: Tensor, position: Tensor) -> Tensor:
        """Scenarios [B] and positions [B] -> logits [B, O], 0 where there is no position."""
        index = position.clamp(min=0)
        logits = F.embedding(index, self.shared) + F.embedding(scenario * POSITIONS + index, self.own)
        return logits * (position != NO_POSITION).unsqueeze(1)


class WithPositionBias(nn.Module):
    """A network and the bias of positions; without positions the logits are those of the network."""

    def __init__(self, network: nn.Module, *, scenarios: int, outputs: int) -> None:
        super().__init__()
        self.network, self.bias = network, PositionBias(scenarios=scenarios, outputs=outputs)

    def forward(
        self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """What the network reads, and positions [B] or None -> logits [B, O]."""
        logits: Tensor = self.network(categorical, bags, numeric, scenario)
        return logits if position is None else logits + self.bias(scenario, position)


def with_position_bias(network: nn.Module, rows: Tensors, *, scenarios: int, tasks: Sequence[Task]) -> nn.Module:
    """The network with the bias of positions, where the rows have any and it has none; else the network itself."""
    if rows.position is None or isinstance(network, WithPositionBias):
        return network
    return WithPositionBias(network, scenarios=scenarios, outputs=sum(task.outputs for task in tasks))


def drop_positions(position: Tensor, draws: Draws) -> Tensor:
    """The positions [B, 1] without a random share of them; none [B, 0] stay none."""
    if not position.shape[1]:
        return position
    dropped = draws.uniform(position.shape, position.device) < DROPPED
    return position.masked_fill(dropped, NO_POSITION)
