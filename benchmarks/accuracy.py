"""Benchmark: every model over several seeds on the same rows; mean and spread of the test AUC per cell.

    python -m benchmarks.accuracy --dataset movielens-1m --path DIR --models all --seeds 5 --json accuracy.json

The rows of the table stand in benchmarks/accuracy.yaml, the protocols in benchmarks/protocols.py. Every run learns from
the training rows, its epoch is chosen on the validation rows, and its test AUC is reported. The JSON is written after
every run; called again with the same file, the command goes on with the runs that are missing.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

import params
import stage
from benchmarks.protocols import ENCODER, SCHEMA, TENSORS, prepare, remember
from benchmarks.report import Report, Run, rounded, show
from benchmarks.rows import Row, read_rows
from features.encode import Encoder, open_tensors
from features.schema import read_schema
from models.fit import denormals_flushed, fit, repeatable
from models.folder import NETWORKS
from models.metrics import mean_of_cells
from models.predict import predict
from models.train import arguments_of, cell_weights, recipe_of


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
    rows = read_rows(dataset, models.split(","), params.load().train)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report = Report(json, dataset, prepare(dataset, path, split, folder), folder)
        missing = [(row, seed) for seed in range(1, seeds + 1) for row in rows if not report.has(row, seed)]
        for row, seed, found in _runs(missing, folder, processes or stage.threads()):
            report.add(row, seed, found)
        show(report.write(rows, seeds))


def run(row: Row, seed: int, folder: Path) -> Run:
    """Fit the row with this seed, on one thread; its AUC on the test rows."""
    torch.set_num_threads(1)
    schema, encoder = read_schema(folder / SCHEMA), Encoder.read(folder / ENCODER)
    train, valid, test = (open_tensors(folder / TENSORS / name) for name in ("train", "valid", "test"))
    settings = row.train.model_copy(update={"seed": seed})
    repeatable(seed)
    arguments = arguments_of(row.network, encoder.layout, schema.tasks, settings)
    if row.neighbours:
        network = NETWORKS[row.network](**arguments, neighbours=2 ** len(schema.tasks))
        remember(network, train, encoder, schema)
    else:
        network = NETWORKS[row.network](**arguments)
    started = time.perf_counter()
    with denormals_flushed():
        fitted = fit(
            network, train, valid, recipe_of(settings), scenarios=schema.scenarios, tasks=schema.tasks,
            cell_weights=cell_weights(schema, settings), device=settings.device,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    logits = predict(network, test, row.name)
    auc = mean_of_cells(
        test.labels, logits, test.scenario, schema.tasks, scenarios=len(schema.scenarios), choice_set=test.choice_set
    )[1]
    return Run(
        auc=rounded(auc), valid_auc=rounded(fitted.best.valid_auc), best_epoch=fitted.best.number,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        samples_per_second=round(len(fitted.epochs) * len(train.scenario) / seconds),
    )  # fmt: skip


def _runs(wanted: list[tuple[Row, int]], folder: Path, processes: int) -> Iterator[tuple[Row, int, Run]]:
    """The runs as they end, `processes` of them at a time, each in a process of its own."""
    with silent(), ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked: dict[Future[Run], tuple[Row, int]] = {pool.submit(run, *one, folder): one for one in wanted}
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
