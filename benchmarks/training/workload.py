"""The workload of the training benchmark: random rows, the sizes of HiNet, and the training loop on them."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from features.encoding.tensors import Tensors
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig
from models.training.batches import BatchLoader, Draws, TensorBatch
from models.training.device import make_deterministic
from models.training.distributed import SINGLE_PROCESS, Group
from models.training.loop import TrainingLoop
from models.training.optim import Recipe
from models.training.sharded_tables import shard_tables
from models.training.train_state import TrainState

FIELDS, WIDTH, TASKS = 8, 16, 2
BATCH = 4096
BATCHES, IDS = (512, 2048, 4096, 16384), (10_000, 1_000_000, 10_000_000)  # of the sweeps
AUTHORS: dict[str, Any] = {
    "sub_experts": 5,
    "expert_units": (128, 64),
    "task_experts": 2,
    "shared_experts": 2,
    "task_expert_units": (128, 64),
    "tower_units": (128, 64),
    "scenario_width": 64,
}
SMALL: dict[str, Any] = {
    "sub_experts": 2,
    "expert_units": (64, 32),
    "task_experts": 2,
    "shared_experts": 2,
    "task_expert_units": (64, 32),
    "tower_units": (64, 32),
    "scenario_width": 16,
}
RECIPE = Recipe(
    seed=1,
    epochs=1,
    patience=1,
    batch_size=BATCH,
    learning_rate=1e-3,
    embedding_weight_decay=1e-4,
    weight_decay=1e-5,
    average=0.995,
    unknown_share=0.02,
)
SIZES = {
    "authors, 3 scenarios": {**AUTHORS, "scenarios": 3},
    "authors, 6 scenarios": {**AUTHORS, "scenarios": 6},
    "small, 3 scenarios": {**SMALL, "scenarios": 3},
}


@dataclass(frozen=True)
class Workload:
    """Random rows, and the training loop of a network for them."""

    rows: BatchLoader
    loop: TrainingLoop

    @classmethod
    def of(
        cls,
        shape: dict[str, Any],
        rows: int,
        *,
        ids: int | None = None,
        device: str = "cpu",
        group: Group = SINGLE_PROCESS,
        **recipe: Any,
    ) -> "Workload":
        """The workload of a size.

        Args:
            shape: a config of HiNet and the number of scenarios.
            rows: the number of rows.
            ids: the number of ids of the FIELDS categorical fields together; default: the first of IDS.
            device: cpu or cuda.
            group: the processes that train together.
            **recipe: hyperparameters other than those of RECIPE.
        """
        ids = ids or IDS[0]
        make_deterministic(1)
        network, changed = HiNet(*arguments(shape, ids)), dataclasses.replace(RECIPE, **recipe)
        if changed.shard_embeddings:
            shard_tables(network, group, torch.device(device))
        state = TrainState(network, changed, torch.device(device))
        loader = BatchLoader(random_rows(rows, ids // FIELDS, shape["scenarios"]), state.device, group=group)
        cell_weights = torch.ones(shape["scenarios"], TASKS, device=device)
        return cls(loader, TrainingLoop(state, cell_weights, None, group))

    @property
    def resident(self) -> TensorBatch:
        """The rows as tensors."""
        assert self.rows.resident is not None
        return self.rows.resident

    def batches(self) -> Iterator[TensorBatch]:
        """The input of the training loop, without end."""
        return full_batches(self.loop, self.rows)


def full_batches(loop: TrainingLoop, rows: BatchLoader) -> Iterator[TensorBatch]:
    """Shuffled full batches with masked ids, without end, as in a training of the loop."""
    draws = Draws(loop.state.mask_generator)
    while True:
        for batch in rows.shuffled(loop.recipe.batch_size, torch.Generator().manual_seed(1)):
            if len(batch.scenario) == loop.recipe.batch_size:
                masked = batch.mask_ids(loop.recipe.unknown_share, draws)
                yield masked if loop.rare_ids is None else loop.rare_ids.mask(masked, draws)


def arguments(shape: dict[str, Any], ids: int) -> tuple[DataSpec, HiNetConfig]:
    """HiNet's arguments for rows of FIELDS categorical fields; `shape` is a config and the number of scenarios."""
    data = DataSpec(
        table_rows=(ids // FIELDS,) * FIELDS,
        categorical_tables=tuple(range(FIELDS)),
        bag_tables=(),
        bag_lengths=(),
        numeric=0,
        scenarios=shape["scenarios"],
        task_outputs=(1,) * TASKS,
    )
    sizes = {name: value for name, value in shape.items() if name != "scenarios"}
    return data, HiNetConfig(embedding_width=WIDTH, **sizes)


def random_rows(rows: int, ids: int, scenarios: int, seed: int = 1) -> Tensors:
    """Encoded rows whose ids, scenarios and labels are drawn uniformly."""
    random = np.random.default_rng(seed)
    return Tensors(
        categorical=random.integers(0, ids, (rows, FIELDS), dtype=np.int32),
        bags=np.empty((rows, 0), np.int32),
        numeric=np.empty((rows, 0), np.float32),
        scenario=random.integers(0, scenarios, rows, dtype=np.int32),
        labels=random.integers(0, 2, (rows, TASKS)).astype(np.float32),
        event_id=np.arange(rows),
        user=np.arange(rows),
    )
