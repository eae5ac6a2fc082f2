"""A search that two processes share through a PostgreSQL database, one of which is killed."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from models.tuning.storage import open_storage
from tests.support.postgres_process import PASSWORD, postgres_server
from tests.support.search import search_project, start_search
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]

TRIALS, FINALISTS, SEEDS = 8, 2, 2


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database."""
    with postgres_server("search") as port:
        yield f"postgresql+psycopg://search:{PASSWORD}@127.0.0.1:{port}/postgres"


def trials_of(database: str, folder: Path) -> list[list[optuna.trial.FrozenTrial]]:
    """The trials of the search, and those of its finalists; none before it has begun."""
    with open_storage(database, folder, 30) as storage:
        names = sorted(optuna.get_all_study_names(storage))
        return [optuna.load_study(storage=storage, study_name=name).get_trials() for name in names]


def test_two_processes_share_the_trials(database: str, tmp_path: Path) -> None:
    """They start at once on an empty database: together they run as many trials as were requested, each one once."""
    options = ("--trials", str(TRIALS), "--finalists", str(FINALISTS), "--seeds", str(SEEDS), "--storage", database)
    projects = [search_project(tmp_path / name, rows=1500, epochs=2) for name in ("first", "second")]
    processes = [start_search(project, *options) for project in projects]
    logs = [project / "search.log" for project in projects]
    assert [process.wait(400) for process in processes] == [0, 0], [log.read_text() for log in logs]
    trials, finals = trials_of(database, tmp_path)
    assert sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials) == TRIALS
    trainings = Counter(str(trial.user_attrs) for trial in finals if trial.state.name == "COMPLETE")
    assert len(trainings) == (FINALISTS + 1) * SEEDS
    assert set(trainings.values()) == {1}
    ends = [
        [line for line in log.read_text().splitlines() if line.startswith(("params.yaml: 0", "trial"))] for log in logs
    ]
    assert ends[0] == ends[1]


def test_another_process_runs_the_trial_of_a_killed_one(database: str, tmp_path: Path) -> None:
    """The first is killed in a trial, and gives no sign for three seconds: the second runs it with the same values."""
    options = ("--trials", "4", "--finalists", "1", "--seeds", "1", "--heartbeat-seconds", "1", "--storage", database)
    project = search_project(tmp_path / "project", rows=3000, epochs=12, patience=12)
    first = start_search(project, *options)

    def runs() -> bool:
        time.sleep(0.5)
        studies = trials_of(database, tmp_path)
        return bool(studies) and any(trial.state.name == "RUNNING" for trial in studies[0])

    wait_until(runs, 120)
    time.sleep(1.5)  # until there is a heartbeat
    first.kill()
    assert first.wait() == -9, (project / "search.log").read_text()
    text = (project / "params.yaml").read_text()
    assert start_search(project, *options).wait(500) == 0, (project / "search.log").read_text()
    assert (project / "params.yaml").read_text() == text
    trials, finals = trials_of(database, tmp_path)
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == 4
    assert states["FAIL"] == 1
    (failed,) = (trial for trial in trials if trial.state.name == "FAIL")
    (retried,) = (trial for trial in trials if trial.system_attrs.get("failed_trial") == failed.number)
    assert retried.params == failed.params
    assert [trial.state.name for trial in finals] == ["COMPLETE"] * 2
