"""Searches for the tests: a function with a known best value in place of a training, and a project with tiny rows."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

from common.paths import PARAMS, ROOT
from common.yaml_file import dump_yaml, read_yaml
from models.tuning.fitting import DivergedError, Report
from models.tuning.parameters import Values, with_values_in_text
from models.tuning.space import Space, read_space
from tests.support.dvc_project import SMALL, write_world

PLAIN = read_yaml(ROOT / PARAMS)
RATE, UNITS = "train.learning_rate", "train.hinet.tower_units"
DECLARED: dict[str, Any] = {
    RATE: {"float": {"low": 0.0005, "high": 0.0105}},
    UNITS: {"choice": [[64, 32], [32], [16, 8]]},
}
BEST = {RATE: 0.0075, UNITS: [32]}
EPOCHS = 4


class PlantedMeans:
    """A training whose validation mean is known: 0.8 with the values BEST, less the further they are from them."""

    def __init__(self, *, noise: float = 0.0, diverges_from: float = 1.0) -> None:
        """The mean differs by `noise` times the seed; a learning rate above `diverges_from` cannot be trained with."""
        self.noise, self.diverges_from = noise, diverges_from
        self.calls: list[tuple[Values, int]] = []

    def __call__(self, values: Values, seed: int, report: Report) -> float:
        """The mean of the best epoch."""
        self.calls.append((values, seed))
        if values[RATE] > self.diverges_from:
            raise DivergedError("the loss is nan")
        mean = 0.8 - abs(values[RATE] - BEST[RATE]) * 20 - 0.05 * (values[UNITS] != BEST[UNITS]) + self.noise * seed
        for epoch in range(1, EPOCHS + 1):
            report(epoch, mean - 0.01 * (EPOCHS - epoch))
        return mean


@contextlib.contextmanager
def in_memory(heartbeat: int | None = None) -> Iterator[RDBStorage]:
    """A storage of this process, with heartbeats of so many seconds as a database has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = RetryHeartbeatStaleTrialCallback()
        storage = RDBStorage("sqlite://", heartbeat_interval=heartbeat, heartbeat_stale_trial_callback=retry)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def planted_space(folder: Path, declared: dict[str, Any] | None = None) -> Space:
    """The space of DECLARED for HiNet."""
    (folder / "search.yaml").write_text(dump_yaml(declared or DECLARED))
    return read_space(folder / "search.yaml", PLAIN, "hinet")


def search_project(folder: Path, rows: int = 600, **changes: Any) -> Path:
    """A folder with rows of the tiny world, params.yaml with changes of `train`, and search.yaml; returns it."""
    values = {f"train.{name}": value for name, value in (SMALL | {"epochs": 1} | changes).items()}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(with_values_in_text((ROOT / PARAMS).read_text(), values))
    (folder / "search.yaml").write_text(dump_yaml(DECLARED))
    write_world(folder, rows)
    return folder


def start_search(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start the command in the folder of a project; what it prints goes to search.log there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "search.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "models.search", *options], cwd=folder, env=environment, stdout=log, stderr=log
        )


def trial_states(database: Path) -> dict[str, list[str]]:
    """The states of the trials of each study in a SQLite file, in the order of their numbers."""
    query = (
        "SELECT studies.study_name, trials.state FROM trials JOIN studies USING (study_id) ORDER BY study_name, number"
    )
    states: dict[str, list[str]] = {}
    if database.exists():
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as opened:
            try:
                rows = opened.execute(query).fetchall()
            except sqlite3.OperationalError:  # the tables are not there yet
                rows = []
        for name, state in rows:
            states.setdefault(name, []).append(state)
    return states
