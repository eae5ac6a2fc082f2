"""The command models.search: real trainings on the rows of a tiny world, and a search that is killed."""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from common import stage
from common.errors import ParameterError
from common.paths import PARAMS
from models.search import search
from tests.support.search import search_project, start_search, trial_states
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """The folder of a project with encoded rows, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "threads", lambda: 1)
    return search_project(tmp_path)


def studies(project: Path) -> list[Path]:
    """The folders of the studies."""
    return sorted((project / "artifacts" / "search").iterdir())


def test_a_search_trains_on_the_rows_of_the_project(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has trials and finalists, prints the command that runs the best values, and leaves params.yaml as it is."""
    before, files = (project / PARAMS).read_text(), {path for path in project.rglob("*") if path.is_file()}
    search(trials=3, finalists=1, seeds=1)
    output = capsys.readouterr().out
    (folder,) = studies(project)
    states = trial_states(folder / "study.db")
    assert states == {folder.name: ["COMPLETE"] * 3, f"{folder.name}-finalists": ["COMPLETE"] * 2}
    assert re.search(r"^params.yaml: 0\.\d{4}", output, re.MULTILINE)
    assert "to run it: dvc exp run --set-param" in output or "params.yaml stays as it is" in output
    assert (project / PARAMS).read_text() == before
    written = {path.name for path in project.rglob("*") if path.is_file()} - {path.name for path in files}
    assert written == {".lock", "study.db", "index.html"}
    search(trials=3, finalists=1, seeds=1)
    assert trial_states(folder / "study.db") == states


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials: expected a number above 0, found 0"),
        ({"budget_minutes": -1.0}, "--budget-minutes: expected a number above 0"),
        ({"model": "hinett"}, "hinett"),
        ({"space": Path("none.yaml")}, "none.yaml does not exist"),
    ],
)
def test_a_wrong_option_is_named(project: Path, options: dict[str, object], message: str) -> None:
    """Before anything is written."""
    with pytest.raises(ParameterError, match=message):
        search(**options)  # type: ignore[arg-type]
    assert not (project / "artifacts" / "search").exists()


@pytest.mark.slow
def test_a_search_that_is_killed_three_times_goes_on(tmp_path: Path) -> None:
    """Kill -9 among the trials twice and among the finalists once: in the end every trial is there exactly once."""
    project, options = (
        search_project(tmp_path, rows=3000, epochs=3),
        ("--trials", "6", "--finalists", "2", "--seeds", "2"),
    )

    def counts() -> tuple[int, int]:
        done = [
            sum(state in ("COMPLETE", "PRUNED") for state in states)
            for folder in (project / "artifacts").glob("search/*")
            for states in [*trial_states(folder / "study.db").values(), [], []][:2]
        ]
        return (done[0], done[1]) if done else (0, 0)

    def reached(process: "subprocess.Popen[bytes]", least: tuple[int, int]) -> bool:
        return counts() >= least or process.poll() is not None

    for least in ((1, 0), (4, 0), (6, 2)):
        process = start_search(project, *options)
        wait_until(partial(reached, process, least), 200)
        process.kill()
        assert process.wait() == -9, (project / "search.log").read_text()
    assert start_search(project, *options).wait(300) == 0, (project / "search.log").read_text()
    assert counts() == (6, 6)
    (folder,) = studies(project)
    states = trial_states(folder / "study.db")
    assert sum(state == "FAIL" for group in states.values() for state in group) <= 3
    assert not {"RUNNING", "WAITING"} & {state for group in states.values() for state in group}
