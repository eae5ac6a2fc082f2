"""The runs of the accuracy benchmark: a row of the table with a seed, trained on one thread in its own process."""

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from benchmarks.accuracy.protocols import outcome_codes, store_neighbours, with_auxiliary, with_unobserved
from benchmarks.accuracy.report import Cells, Report, Run, auc_of
from benchmarks.accuracy.rows import Row
from common import stage
from common.files import replacing
from common.paths import ENCODER, SCHEMA, TENSORS
from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors, open_tensors
from features.schema import Schema, Task, read_schema
from models.evaluation.predict import predict
from models.model_folder import build_network
from models.training.configuration import arguments_of, cell_weights, recipe_of
from models.training.device import flush_denormals, make_deterministic
from models.training.final_pass import fit_final
from models.training.loop import fit
from models.training.loss import LossTerms


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trained network: logits [N, O] of the valid and test rows, by the epoch that the valid rows chose."""

    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    best_epoch: int
    parameters: int
    samples_per_second: float


def run(row: Row, seed: int, folder: Path, kept: Path) -> Run:
    """Train the row's members, the n of them with the seeds n (seed - 1) + 1 .. n seed; AUC of their mean logits.

    `folder` holds the encoded rows, `kept` the members of ensembles. Parameters are those of all members; samples/s are
    those of a row that goes through all members; the epoch is the latest of all members.
    """
    first = row.members * (seed - 1) + 1
    members = [_member(row, number, folder, kept) for number in range(first, first + row.members)]
    return Run(
        auc=_auc(folder, "test", [member.test for member in members]),
        valid_auc=_auc(folder, "valid", [member.valid for member in members]),
        best_epoch=max(member.best_epoch for member in members),
        parameters=sum(member.parameters for member in members),
        samples_per_second=round(1 / sum(1 / member.samples_per_second for member in members)),
    )


def run_table(report: Report, rows: Sequence[Row], seeds: int, kept: Path, processes: int | None) -> dict[str, Any]:
    """Run what the table of these rows and seeds lacks, writing it after each run; returns it.

    The arguments are those of `run_all`; `processes` is by default one per core.
    """
    missing = [(row, seed) for seed in range(1, seeds + 1) for row in rows if not report.has(row, seed)]
    for row, seed, result in run_all(missing, report.folder, kept, processes or stage.threads()):
        report.add(row, seed, result)
    return report.write(rows, seeds)


def run_all(missing: list[tuple[Row, int]], folder: Path, kept: Path, processes: int) -> Iterator[tuple[Row, int, Run]]:
    """The runs in the order in which they end, `processes` of them at a time, each in its own process."""
    with (
        without_progress_bars(),
        ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        futures: dict[Future[Run], tuple[Row, int]] = {pool.submit(run, *one, folder, kept): one for one in missing}
        for future in tqdm(as_completed(futures), total=len(futures), unit="run", desc="accuracy"):
            row, seed = futures[future]
            yield row, seed, future.result()


def train_member(row: Row, seed: int, folder: Path) -> Member:
    """Train a network of the row with this seed on one thread; its last pass comes after the valid rows were scored."""
    torch.set_num_threads(1)
    schema, encoder = read_schema(folder / SCHEMA), Encoder.read(folder / ENCODER)
    train, valid, test = (open_tensors(folder / TENSORS / name) for name in ("train", "valid", "test"))
    rows = with_auxiliary(train, row.auxiliary, folder), with_unobserved(valid, row.auxiliary)
    recipe, run = recipe_of(row.train.model_copy(update={"seed": seed})), run_arguments(row, schema)
    make_deterministic(seed)
    network = new_network(row, run["tasks"], rows[0], encoder, schema)
    started, own = time.perf_counter(), len(schema.output_names)
    with flush_denormals():
        result = fit(network, *rows, recipe, **run)
        seconds = time.perf_counter() - started
        scores = predict(network, valid, row.name)[:, :own]
        fit_final(result, *rows, recipe, **run)
    return Member(
        valid=scores,
        test=predict(network, test, row.name)[:, :own],
        best_epoch=result.best.number,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        samples_per_second=len(result.epochs) * len(train.scenario) / seconds,
    )


def _member(row: Row, seed: int, folder: Path, kept: Path) -> Member:
    """The member of this seed; that of an ensemble is trained once and then read from `kept`."""
    if row.members == 1:
        return train_member(row, seed, folder)
    facts = json.dumps([row.facts(), (folder / SCHEMA).read_text()], sort_keys=True)
    path = kept / f"{hashlib.sha256(facts.encode()).hexdigest()[:12]}-{seed}.npz"
    if not path.exists():
        member = train_member(row, seed, folder)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **vars(member))
    with np.load(path) as arrays:
        return Member(**{name: value if value.ndim else value.item() for name, value in arrays.items()})


def new_network(row: Row, tasks: tuple[Task, ...], train: Tensors, encoder: Encoder, schema: Schema) -> nn.Module:
    """A new network of the row; one with neighbours holds the training rows."""
    arguments = arguments_of(row.network, encoder.layout, tasks, row.train)
    if not row.neighbours:
        return build_network(row.network, arguments)
    outcome, arguments["config"]["neighbours"] = outcome_codes(train.labels)
    network = build_network(row.network, arguments)
    store_neighbours(network, train, outcome, encoder, schema)
    return network


def run_arguments(row: Row, schema: Schema) -> dict[str, Any]:
    """What both passes of `fit` have in common: the row's auxiliary tasks are the last ones."""
    auxiliary = len(row.auxiliary)
    return {
        "scenarios": schema.scenarios,
        "tasks": (*schema.tasks, *(Task(name=name) for name in row.auxiliary)),
        "terms": LossTerms(cell_weights=F.pad(cell_weights(schema, row.train), (0, auxiliary), value=1.0)),
        "device": row.train.device,
        "auxiliary": auxiliary,
    }


def _auc(folder: Path, part: str, logits: list[NDArray[np.float32]]) -> Cells:
    """AUC [M][T] of the mean of the logits on the rows of a part."""
    schema, rows = read_schema(folder / SCHEMA), open_tensors(folder / TENSORS / part)
    return auc_of(schema, rows, np.mean(logits, axis=0))


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Processes that start inside the block show no progress bars: those of parallel runs overwrite each other."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TQDM_DISABLE")
        if before is not None:
            os.environ["TQDM_DISABLE"] = before
