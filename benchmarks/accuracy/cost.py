"""Benchmark: what a training step of each network of the accuracy table costs, side by side.

    OMP_NUM_THREADS=1 python -m benchmarks.accuracy.cost --models 'hinet,hinet+,m3oe,m3oe+' --json cost.json

Each row of benchmarks/accuracy/accuracy.yaml makes steps on the same encoded rows, as in its training: the batch is
loaded, ids are masked, forward, backward, optimizer, averaged weights. Networks take turns, so that a busy machine is
busy for all of them; a ratio is the median of the ratios within a turn.
"""

import json as jsonlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from common import params, stage
from common.errors import ParameterError
from common.files import write_text

if TYPE_CHECKING:
    from benchmarks.accuracy.rows import Row
    from models.training.batches import TensorBatch
    from models.training.loop import TrainingLoop

MODELS = "hinet,hinet+,shared_bottom+,mmoe+,ple+,star+,pepnet+,m3oe+,autoifs+"
STEPS = 5  # of a network in its turn
Cost = dict[str, float]  # parameters, samples_per_second, times_of_first


def cost(
    *,
    dataset: str = "simulation",
    path: Path | None = None,
    models: str = MODELS,
    rounds: int = 20,
    json: Path = Path("artifacts/cost.json"),
) -> None:
    """Measure the steps of each of `models`; print the table and write it to `json`.

    Args:
        dataset: movielens-1m, kuairand-pure or simulation.
        path: folder with the official archive.
        models: names of rows with commas between them; the first one is what the others are compared with.
        rounds: turns of each network.
        json: file of the table.
    """
    import torch

    from benchmarks.accuracy.protocols import prepare
    from benchmarks.accuracy.rows import read_rows, split_names

    rows = read_rows(dataset, split_names(models), params.load().train)
    torch.set_num_threads(stage.threads())
    with tempfile.TemporaryDirectory() as temporary:
        prepare(dataset, path, None, Path(temporary))
        costs = measure(rows, Path(temporary), rounds=rounds)
    write_text(json, jsonlib.dumps({"dataset": dataset, "threads": stage.threads(), "models": costs}, indent=1) + "\n")
    show(costs)


def measure(rows: "Sequence[Row]", folder: Path, *, rounds: int) -> dict[str, Cost]:
    """The cost of each row on the encoded rows in `folder`: of one member, which learns all tasks of the row.

    Raises ParameterError where there are fewer training rows than a batch has.
    """
    from benchmarks.training.timing import seconds_by_turn
    from models.training.device import flush_denormals

    variants: dict[str, Callable[[], Any]] = {}
    loops = {}
    for row, loop, batches in _loops(rows, folder):
        loops[row.name] = loop
        variants[row.name] = partial(_take_steps, loop, batches)
    with flush_denormals():
        seconds = seconds_by_turn(variants, rounds)
    first = seconds[rows[0].name]
    return {
        name: {
            "parameters": sum(parameter.numel() for parameter in loop.parameters),
            "samples_per_second": round(STEPS * loop.recipe.batch_size / float(np.median(seconds[name]))),
            "times_of_first": round(float(np.median(seconds[name] / first)), 3),
        }
        for name, loop in loops.items()
    }


def _loops(rows: "Sequence[Row]", folder: Path) -> "Iterator[tuple[Row, TrainingLoop, Iterator[TensorBatch]]]":
    """Each row with its training loop and its batches; all rows share the training rows in memory."""
    import torch

    from benchmarks.accuracy.protocols import with_auxiliary
    from benchmarks.accuracy.runs import new_network, run_arguments
    from benchmarks.training.workload import full_batches
    from common.paths import ENCODER, SCHEMA, TENSORS
    from features.encoding.encoder import Encoder
    from features.encoding.tensors import open_tensors
    from features.schema import read_schema
    from models.training.batches import BatchLoader
    from models.training.device import make_deterministic
    from models.training.distributed import SINGLE_PROCESS
    from models.training.loop import TrainingLoop
    from models.training.rare_ids import rare_ids
    from models.training.train_state import TrainState

    schema, encoder, device = read_schema(folder / SCHEMA), Encoder.read(folder / ENCODER), torch.device("cpu")
    train = open_tensors(folder / TENSORS / "train")
    loaders: dict[tuple[str, ...], BatchLoader] = {}
    for row in rows:
        learned, arguments = with_auxiliary(train, row.auxiliary, folder), run_arguments(row, schema)
        make_deterministic(1)
        network = new_network(row, arguments["tasks"], learned, encoder, schema)
        loader = loaders.setdefault(row.auxiliary, BatchLoader(learned, device))
        if loader.count < row.recipe.batch_size:
            raise ParameterError(
                f"{loader.count:,} training rows: expected a batch of {row.recipe.batch_size:,} or more"
            )
        loop = TrainingLoop(
            TrainState(network, row.recipe, device),
            arguments["terms"].weights_of(len(schema.scenarios), len(arguments["tasks"])),
            None,
            SINGLE_PROCESS,
            tasks=arguments["tasks"],
            rare_ids=rare_ids(learned, row.recipe.rare_id_rows, device),
        )
        yield row, loop, full_batches(loop, loader)


def _take_steps(loop: "TrainingLoop", batches: "Iterator[TensorBatch]") -> None:
    for _ in range(STEPS):
        loop.step(next(batches))
        loop.state.average.steps += 1


def show(costs: dict[str, Cost]) -> None:
    """Print the table."""
    table = Table("model", "parameters", "samples/s", f"a step, times that of {next(iter(costs))}", title="training")
    for name, cost in costs.items():
        parameters, rate, times = cost.values()
        table.add_row(name, f"{parameters:,.0f}", f"{rate:,.0f}", f"{times:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    stage.run(cost)
