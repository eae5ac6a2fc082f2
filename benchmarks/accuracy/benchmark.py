"""Benchmark: every model over several seeds on the same rows; mean and spread of the test AUC per cell.

    python -m benchmarks.accuracy.benchmark --dataset movielens-1m --path DIR --models all --seeds 5 --json accuracy.json

The rows of the table stand in benchmarks/accuracy.yaml, the protocols in benchmarks/accuracy/protocols.py. Every run learns from
the training rows, its epoch is chosen on the validation rows, and its test AUC is reported. The JSON is written after
every run; called again with the same file, the command goes on with the runs that are missing. What each network of a
row with several members says is kept in a folder beside it, so that it goes on with the members that are missing.
"""

import hashlib
import json as text
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.accuracy.protocols import (
    ENCODER,
    SCHEMA,
    TENSORS,
    outcomes,
    prepare,
    remember,
    unjudged,
    with_auxiliary,
)
from benchmarks.accuracy.report import Cells, Report, Run, auc_of, show
from benchmarks.accuracy.rows import Row, named, read_rows
from common import params, stage
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.schema import Task, read_schema
from models.evaluation.predict import predict
from models.model_folder import NETWORKS
from models.train import arguments_of, cell_weights, recipe_of
from models.training.loop import denormals_flushed, fit, repeatable


def accuracy(
    *,
    dataset: str = "simulation",
    path: Path | None = None,
    split: str | None = None,
    models: str = "all",
    seeds: int = 5,
    processes: int | None = None,
    json: Path = Path("artifacts/accuracy.json"),
) -> None:
    """Fit each of `models` (names with commas, or all) with seeds 1 to `seeds`; print the table, write it to `json`.

    `path` is the folder with the official archive; `split` is time or random, where the protocol leaves it open. So
    many runs go side by side as `processes` says, one thread each; default: one per core.
    """
    rows = read_rows(dataset, named(models), params.load().train)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report = Report(json, dataset, prepare(dataset, path, split, folder), folder)
        missing = [(row, seed) for seed in range(1, seeds + 1) for row in rows if not report.has(row, seed)]
        for row, seed, found in _runs(missing, folder, json.with_suffix(".members"), processes or stage.threads()):
            report.add(row, seed, found)
        show(report.write(rows, seeds))


@dataclass(frozen=True, kw_only=True)
class Member:
    """One fit on one thread: logits [N, O] of the valid and the test rows, by the epoch that the valid rows chose."""

    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    best_epoch: int
    parameters: int
    samples_per_second: float


def run(row: Row, seed: int, folder: Path, beside: Path) -> Run:
    """Fit the row's members, the n of them with the seeds n (seed - 1) + 1 .. n seed; AUC of their mean logits.

    Parameters are those of all members, rows/s those of a row that goes through all; the epoch is that of the latest.
    """
    first = row.members * (seed - 1) + 1
    members = [_kept(row, number, folder, beside) for number in range(first, first + row.members)]
    return Run(
        auc=_auc(folder, "test", [member.test for member in members]),
        valid_auc=_auc(folder, "valid", [member.valid for member in members]),
        best_epoch=max(member.best_epoch for member in members),
        parameters=sum(member.parameters for member in members),
        samples_per_second=round(1 / sum(1 / member.samples_per_second for member in members)),
    )


def _kept(row: Row, seed: int, folder: Path, beside: Path) -> Member:
    """The member of this seed; of a row with several, it is fitted once and then read from `beside`."""
    if row.members == 1:
        return fitted(row, seed, folder)
    facts = text.dumps([row.facts(), (folder / SCHEMA).read_text()], sort_keys=True)
    path = beside / f"{hashlib.sha256(facts.encode()).hexdigest()[:12]}-{seed}.npz"
    if not path.exists():
        beside.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **vars(fitted(row, seed, folder)))
        partial.replace(path)
    with np.load(path) as found:
        return Member(**{name: value if value.ndim else value.item() for name, value in found.items()})


def fitted(row: Row, seed: int, folder: Path) -> Member:
    """A network of the row, fitted with this seed on one thread."""
    torch.set_num_threads(1)
    schema, encoder = read_schema(folder / SCHEMA), Encoder.read(folder / ENCODER)
    train, valid, test = (open_tensors(folder / TENSORS / name) for name in ("train", "valid", "test"))
    train = with_auxiliary(train, row.auxiliary, folder)
    tasks = (*schema.tasks, *(Task(name=name) for name in row.auxiliary))
    settings = row.train.model_copy(update={"seed": seed})
    repeatable(seed)
    arguments = arguments_of(row.network, encoder.layout, tasks, settings)
    if row.neighbours:
        outcome, count = outcomes(train.labels)
        network = NETWORKS[row.network](**arguments, neighbours=count)
        remember(network, train, outcome, encoder, schema)
    else:
        network = NETWORKS[row.network](**arguments)
    started = time.perf_counter()
    with denormals_flushed():
        found = fit(
            network,
            train,
            unjudged(valid, row.auxiliary),
            recipe_of(settings),
            scenarios=schema.scenarios,
            tasks=tasks,
            cell_weights=F.pad(cell_weights(schema, settings), (0, len(row.auxiliary)), value=1.0),
            device=settings.device,
            auxiliary=len(row.auxiliary),
        )
    seconds, own = time.perf_counter() - started, len(schema.output_names)
    return Member(
        valid=predict(network, valid, row.name)[:, :own],
        test=predict(network, test, row.name)[:, :own],
        best_epoch=found.best.number,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        samples_per_second=len(found.epochs) * len(train.scenario) / seconds,
    )


def _auc(folder: Path, part: str, logits: list[NDArray[np.float32]]) -> Cells:
    """AUC [M][T] of the mean of the logits on the rows of a part."""
    schema, rows = read_schema(folder / SCHEMA), open_tensors(folder / TENSORS / part)
    return auc_of(schema, rows, np.mean(logits, axis=0))


def _runs(wanted: list[tuple[Row, int]], folder: Path, beside: Path, processes: int) -> Iterator[tuple[Row, int, Run]]:
    """The runs as they end, `processes` of them at a time, each in a process of its own."""
    with silent(), ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked: dict[Future[Run], tuple[Row, int]] = {pool.submit(run, *one, folder, beside): one for one in wanted}
        for done in tqdm(as_completed(asked), total=len(asked), unit="run", desc="accuracy"):
            row, seed = asked[done]
            yield row, seed, done.result()


@contextmanager
def silent() -> Iterator[None]:
    """Processes that are started meanwhile show no bars: those of runs side by side would overwrite each other."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TQDM_DISABLE")
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


if __name__ == "__main__":
    stage.run(accuracy)
