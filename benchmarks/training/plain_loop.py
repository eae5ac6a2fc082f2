"""HiNet as public code writes such networks: one module per expert, gate and tower, one call after the other.

For the speed benchmark only. Its logits equal those of models/networks/hinet.py, which a test holds.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNetConfig
from models.training.batches import TensorBatch

Arguments = tuple[DataSpec, HiNetConfig]  # of a network


def perceptron(inputs: int, units: Sequence[int]) -> nn.Sequential:
    """Linear layers, a ReLU after each."""
    layers: list[nn.Module] = []
    for i, o in zip([inputs, *units], units, strict=False):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers)


class Mixture(nn.Module):
    """K perceptrons and their gate, which also weights the outputs of shared perceptrons."""

    def __init__(self, experts: int, inputs: int, units: Sequence[int], shared: int = 0) -> None:
        super().__init__()
        self.experts = nn.ModuleList(perceptron(inputs, units) for _ in range(experts))
        self.gate = nn.Linear(inputs, experts + shared, bias=False)

    def forward(self, x: Tensor, shared: Sequence[Tensor] = ()) -> Tensor:
        """Rows [B, D], and outputs of shared perceptrons [B, H] each -> [B, H]."""
        weights, values = self.gate(x).softmax(dim=1), [*(expert(x) for expert in self.experts), *shared]
        return torch.stack([weights[:, k, None] * value for k, value in enumerate(values)]).sum(dim=0)


class LoopHiNet(nn.Module):
    """HiNet of categorical fields without its options; arguments as HiNet's."""

    def __init__(self, data: DataSpec, config: HiNetConfig) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, config.embedding_width) for rows in data.table_rows)
        inputs, self.scenarios = len(data.table_rows) * config.embedding_width, data.scenarios
        self.mixtures = nn.ModuleList(
            Mixture(config.sub_experts, inputs, config.expert_units) for _ in range(1 + self.scenarios)
        )
        self.scenario = nn.Embedding(self.scenarios, config.scenario_width)
        self.attention = nn.Linear(config.scenario_width, self.scenarios, bias=False)
        width, units, shared = 3 * config.expert_units[-1], config.task_expert_units, config.shared_experts
        self.of_tasks = nn.ModuleList(Mixture(config.task_experts, width, units, shared) for _ in range(data.tasks))
        self.shared = nn.ModuleList(perceptron(width, units) for _ in range(shared))
        self.towers = nn.ModuleList(
            nn.Sequential(perceptron(units[-1], config.tower_units), nn.Linear(config.tower_units[-1], 1))
            for _ in range(data.tasks)
        )

    def forward(self, categorical: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], scenarios [B] -> logits [B, T]."""
        x = torch.cat([table(categorical[:, f]) for f, table in enumerate(self.tables)], dim=1)
        common, *specific = (mixture(x) for mixture in self.mixtures)
        context = torch.cat([common, self._own(specific, scenario), self._others(specific, scenario)], dim=1)
        shared = [expert(context) for expert in self.shared]
        logits = []
        for mixture, tower in zip(self.of_tasks, self.towers, strict=True):
            logits.append(tower(mixture(context, shared)))
        return torch.cat(logits, dim=1)

    def _own(self, specific: list[Tensor], scenario: Tensor) -> Tensor:
        return torch.stack([(scenario == m)[:, None] * value for m, value in enumerate(specific)]).sum(dim=0)

    def _others(self, specific: list[Tensor], scenario: Tensor) -> Tensor:
        logits = self.attention(self.scenario(scenario))
        own = nn.functional.one_hot(scenario.long(), self.scenarios).bool()
        weights = logits.masked_fill(own, -torch.inf).softmax(dim=1)
        return torch.stack([weights[:, m, None] * value for m, value in enumerate(specific)]).sum(dim=0)


class RowByRow(Dataset[dict[str, Any]]):
    """A data set of single rows with a number per field, as loaders of public recommenders read it."""

    def __init__(self, rows: TensorBatch) -> None:
        fields = {f"field_{f}": column.numpy() for f, column in enumerate(rows.categorical.unbind(1))}
        labels = {f"label_{t}": column.numpy() for t, column in enumerate(rows.labels.unbind(1))}
        self.columns = {**fields, "scenario": rows.scenario.numpy(), **labels}

    def __len__(self) -> int:
        return len(self.columns["scenario"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: column[row] for name, column in self.columns.items()}


def row_by_row(rows: TensorBatch, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """Shuffled batches, collated row by row by torch's DataLoader, without end."""
    fields, labels = rows.categorical.shape[1], rows.labels.shape[1]
    while True:
        for batch in DataLoader(RowByRow(rows), batch_size=batch_size, shuffle=True, drop_last=True):
            categorical = torch.stack([batch[f"field_{f}"] for f in range(fields)], dim=1)
            yield categorical, batch["scenario"], torch.stack([batch[f"label_{t}"] for t in range(labels)], dim=1)


def in_memory(rows: TensorBatch, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """Shuffled batches, selected by index, without end."""
    while True:
        for batch in torch.split(torch.randperm(len(rows.scenario)), batch_size)[:-1]:
            yield rows.categorical[batch], rows.scenario[batch], rows.labels[batch]


def step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, ...]) -> float:
    """One step: forward, backward, Adam; returns the loss."""
    categorical, scenario, labels = batch
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(network(categorical, scenario), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


class ChildLoop:
    """Steps of the plain loop in a child process, so that the settings of models/training/device.py do not help it."""

    def __init__(self, arguments: Arguments, rows: TensorBatch, batch_size: int, *, by_loader: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        values = (child, arguments, rows, batch_size, by_loader, torch.get_num_threads())
        self.process = context.Process(target=_run_steps, args=values, daemon=True)
        self.process.start()

    def step(self) -> float:
        """Run one step; returns the loss."""
        self.pipe.send("step")
        return float(self.pipe.recv())

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def _run_steps(
    pipe: Connection, arguments: Arguments, rows: TensorBatch, batch_size: int, by_loader: bool, threads: int
) -> None:
    """Run a step of the plain loop for every message in the pipe, and answer with its loss.

    Args:
        pipe: the end of the child process.
        arguments: of the network.
        rows: all rows as tensors.
        batch_size: rows of a step.
        by_loader: whether torch's DataLoader reads the rows one by one; else they are selected in memory.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    network = LoopHiNet(*arguments)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    batches = row_by_row(rows, batch_size) if by_loader else in_memory(rows, batch_size)
    while pipe.recv():
        pipe.send(step(network, optimizer, next(batches)))
