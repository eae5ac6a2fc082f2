"""The mornings of a log one by one: which models are missing, in which model each begins, and what they score."""

import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.accuracy.runs import without_progress_bars
from benchmarks.mornings.plan import FROM_NOTHING, Start
from benchmarks.mornings.results import Results
from benchmarks.mornings.rows import mornings
from benchmarks.mornings.training import Job, run_job
from common.errors import ParameterError
from common.params import load
from common.paths import PARAMS
from common.train_params import Train
from models.model_folder import NETWORKS


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """A log and a network, and where the results are kept.

    Args:
        name: name of the log.
        run: folder with params.yaml, schema, views and joined rows.
        first: number of the first day that a model scores, counted from 1.
        last: number of the last day; None: that of the log.
        every: days from one morning to the next.
        network: name of the network.
        seeds: trainings of each start on each morning.
        json: file of the results; the models are in a folder beside it.
    """

    name: str
    run: Path
    first: int
    last: int | None
    every: int
    network: str
    seeds: int
    json: Path

    def head(self, train: Train) -> dict[str, Any]:
        """What results that are continued have in common; `train` are the parameters of the network."""
        plain = train.model_dump(mode="json", exclude={*NETWORKS} - {self.network})
        days = {"first": self.first, "every": self.every}
        return {"log": self.name, "network": self.network, **days, "train": plain}

    def model(self, start: str, seed: int, day: str) -> Path:
        """The model folder of a start with a seed on a morning."""
        return self.json.with_suffix(".models").absolute() / str(seed) / start / day


def run_all(backtest: Backtest, starts: Mapping[str, Start], rows: Path) -> dict[str, Any]:
    """Train and score what is missing, in one process; returns the results with their summary.

    `rows` is a folder for the rows of each morning. Raises ParameterError on an unknown network.
    """
    if backtest.network not in NETWORKS:
        raise ParameterError(f"--model {backtest.network}: expected one of {', '.join(NETWORKS)}")
    train = load(backtest.run / PARAMS).train.of_network(backtest.network)
    results = Results(backtest.json, backtest.head(train))
    days = mornings(backtest.run, backtest.first, backtest.last, backtest.every)
    names = [day.isoformat() for day in days]
    missing = [one for one in _runs(backtest, starts, names) if not results.has(one[0], starts[one[0]], *one[1:])]
    context = multiprocessing.get_context("spawn")
    with without_progress_bars(), ProcessPoolExecutor(1, mp_context=context) as pool:
        for name, seed, day in tqdm(missing, unit="run", desc="mornings"):
            _remove_others(rows, day)
            models = _models(backtest, starts[name], (name, seed), names[: names.index(day) + 1], train)
            job = Job(run=backtest.run, day=day, rows=rows / day, network=backtest.network, **models)
            results.add(name, starts[name], seed, day, pool.submit(run_job, job).result())
    return results.summarize(list(starts), backtest.seeds, names)


def _runs(backtest: Backtest, starts: Mapping[str, Start], days: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Start, seed and day of every run, morning by morning; the model of the first morning is trained once."""
    for number, day in enumerate(days):
        for seed in range(1, backtest.seeds + 1):
            yield from ((name, seed, day) for name in starts if number or name == FROM_NOTHING)


def _models(
    backtest: Backtest, start: Start, run: tuple[str, int], days: Sequence[str], train: Train
) -> dict[str, Any]:
    """Settings, start and model of the job of a run (start, seed) on the last of the mornings so far."""
    name, seed = run
    first, today = backtest.model(FROM_NOTHING, seed, days[0]), backtest.model(name, seed, days[-1])
    if start.trains == "never":
        return {"settings": None, "start": None, "model": first}
    settings = start.settings(train).model_copy(update={"seed": seed})
    if start.trains == "from_nothing":
        return {"settings": settings, "start": None, "model": today}
    yesterday = first if len(days) == 2 else backtest.model(name, seed, days[-2])
    return {"settings": settings, "start": yesterday, "model": today}


def _remove_others(rows: Path, day: str) -> None:
    """Remove the rows of other mornings."""
    for folder in rows.glob("*"):
        if folder.name != day:
            shutil.rmtree(folder)
