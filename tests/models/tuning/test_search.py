"""A search whose trainings have known results: what it finds, that it goes on where it was, and how it decides."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from common.errors import ParameterError, TrainingError
from models.tuning import storage as tuning_storage
from models.tuning.finalists import finalists_of
from models.tuning.fitting import Report
from models.tuning.page import write_page
from models.tuning.parameters import Values
from models.tuning.search import Extent, SearchResult, run_search
from models.tuning.space import Space
from models.tuning.storage import open_storage, restart_killed
from models.tuning.trials import finished
from tests.support.chromium import PROGRAM, browser
from tests.support.search import BEST, PLAIN, RATE, UNITS, PlantedMeans, in_memory, planted_space

pytestmark = pytest.mark.integration

QUICK = Extent(trials=6, finalists=2, seeds=2)


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """Learning rate and widths of the towers."""
    return planted_space(tmp_path)


@pytest.fixture
def storage() -> Iterator[RDBStorage]:
    """SQLite in memory: a file costs some milliseconds a write."""
    with in_memory() as opened:
        yield opened


def run(storage: RDBStorage, space: Space, fit: Any, extent: Extent = QUICK, **others: Any) -> SearchResult:
    """Run a search called hinet-1."""
    return run_search(
        storage, "hinet-1", space, fit, **{"current": space.current(PLAIN), "seed": 1} | others, extent=extent
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SearchResult, list[tuple[Values, int]]]]:
    """The end of a search of 24 trials, and its trainings."""
    fit = PlantedMeans()
    with in_memory() as opened:
        extent = Extent(trials=24, finalists=2, seeds=2)
        yield run(opened, planted_space(tmp_path_factory.mktemp("space")), fit, extent), fit.calls


def test_the_best_values_are_approached(searched: tuple[SearchResult, list[tuple[Values, int]]], space: Space) -> None:
    """The best widths are chosen, the best learning rate nearly; params.yaml is the first trial, and a finalist."""
    result, calls = searched
    assert result.chosen.values[UNITS] == BEST[UNITS]
    assert result.chosen.values[RATE] == pytest.approx(BEST[RATE], abs=0.001)
    assert calls[0] == (space.current(PLAIN), 1)
    assert result.finalists[0].name == "params.yaml"
    assert [seed for _, seed in calls[24:]] == [2, 2, 2, 3, 3, 3]
    assert len(finished(result.study)) == 24


def test_trials_that_lag_are_pruned(searched: tuple[SearchResult, list[tuple[Values, int]]]) -> None:
    """After the first ten, a trial below the median of its epoch ends early, and is no finalist."""
    result, _ = searched
    pruned = result.study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    assert all(2 <= (trial.last_step or 0) < 4 and trial.number >= 10 for trial in pruned)
    everyone = finalists_of(result.study, {}, 24)
    assert len(everyone) == 1 + 24 - len(pruned)
    assert {finalist.name for finalist in everyone}.isdisjoint({f"trial {trial.number}" for trial in pruned})


def test_the_same_seed_draws_the_same_trials(
    searched: tuple[SearchResult, list[tuple[Values, int]]], storage: RDBStorage, space: Space
) -> None:
    """Those of TPE, too; another seed draws others."""
    extent = Extent(trials=13, finalists=1, seeds=1)
    for seed in (1, 2):
        fit = PlantedMeans()
        run_search(storage, f"seed-{seed}", space, fit, current=space.current(PLAIN), seed=seed, extent=extent)
        same = [values for values, _ in fit.calls[:13]] == [values for values, _ in searched[1][:13]]
        assert same == (seed == 1)


def test_the_page_opens_without_a_network(
    searched: tuple[SearchResult, list[tuple[Values, int]]], space: Space, tmp_path: Path
) -> None:
    """It holds the finalists, Optuna's plots and plotly itself, and names no address to load."""
    result, _ = searched
    write_page(tmp_path / "index.html", result, space.current(PLAIN), "mean AUC")
    page = (tmp_path / "index.html").read_text()
    own = page.split("<body>")[1]
    assert own.count("plotly-graph-div") == 5
    assert all(heading in own for heading in ("History", "Importance", "Parallel coordinates", "Slices", "Epochs"))
    assert f"{result.chosen.name} (chosen)" in own
    assert "src=" not in own
    assert "href=" not in own
    assert "<script src" not in page


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium: `apt-get install chromium`")
def test_a_browser_draws_the_plots(
    searched: tuple[SearchResult, list[tuple[Values, int]]], space: Space, tmp_path: Path
) -> None:
    """Without a request to another machine, without an error, and within the width of a phone."""
    write_page(tmp_path / "index.html", searched[0], space.current(PLAIN), "mean AUC")
    with browser() as tab:
        tab.open(tmp_path / "index.html", width=390)
        assert (
            tab.run("[...document.querySelectorAll('.js-plotly-plot')].filter(p => p.querySelector('svg')).length") == 5
        )
        assert tab.run("document.documentElement.scrollWidth") == 390
        assert [address for address in tab.requests if not address.startswith(("file:", "data:"))] == []
        assert tab.console == []


def test_a_search_with_more_trials_adds_them(storage: RDBStorage, space: Space) -> None:
    """Neither trials nor trainings of finalists are repeated."""
    fit = PlantedMeans()
    first = run(storage, space, fit)
    assert len(fit.calls) == 6 + 3 * 2
    again = run(storage, space, fit)
    assert len(fit.calls) == 6 + 3 * 2
    assert again.finalists == first.finalists
    more = run(storage, space, fit, Extent(trials=9, finalists=2, seeds=2))
    assert len(finished(more.study)) == 9
    drawn = [str(values) for values, seed in fit.calls if seed == 1]
    assert len(set(drawn)) == len(drawn) == 9


class KilledError(BaseException):
    """The end of a process in the middle of a trial: Optuna does not catch it."""


def test_a_killed_trial_is_run_again(tmp_path: Path, space: Space) -> None:
    """It is marked as failed when the search goes on, and its values are tried again; no trial is missing."""
    seen: list[Values] = []

    def killed(values: Values, seed: int, report: Report) -> float:
        seen.append(values)
        if len(seen) in (3, 9):  # among the trials, then among the finalists
            raise KilledError
        return PlantedMeans()(values, seed, report)

    for _ in range(2):
        with pytest.raises(KilledError), open_storage(None, tmp_path / "study", 30) as storage:
            run(storage, space, killed)
    with open_storage(None, tmp_path / "study", 30) as storage:
        result = run(storage, space, killed)
        states = [trial.state for trial in result.study.get_trials()]
        assert states.count(TrialState.COMPLETE) == 6
        assert states.count(TrialState.FAIL) == 1
    assert seen[2] == seen[3]
    assert len(seen) == 6 + 3 * 2 + 2


def test_a_trial_that_was_taken_over_is_dropped(storage: RDBStorage, space: Space) -> None:
    """A process that slept too long goes on: the trial has failed in the meantime, and is run again."""
    calls = 0

    def slept(values: Values, seed: int, report: Report) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            restart_killed(optuna.load_study(storage=storage, study_name="hinet-1"), storage)
        return PlantedMeans()(values, seed, report)

    result = run(storage, space, slept)
    assert len(finished(result.study)) == 6
    assert calls == 6 + 3 * 2 + 1


def test_a_trial_without_any_heartbeat_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed just after it had created the trial; one that has just begun is left to its process."""
    with in_memory(heartbeat=60) as storage:
        study = optuna.create_study(storage=storage)
        storage.create_new_trial(study._study_id)
        restart_killed(study, storage)
        assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING]
        monkeypatch.setattr(tuning_storage, "SILENCE", 0)
        restart_killed(study, storage)
        assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_an_error_of_the_program_is_raised(storage: RDBStorage, space: Space) -> None:
    """It does not count as a trial."""

    def broken(values: Values, seed: int, report: Report) -> float:
        raise ValueError("3 rows, 4 labels")

    with pytest.raises(ValueError, match="3 rows, 4 labels"):
        run(storage, space, broken)


def test_values_that_diverge_are_no_finalists(storage: RDBStorage, space: Space) -> None:
    """The trial is recorded as pruned, with the reason."""
    result = run(storage, space, PlantedMeans(diverges_from=0.004), Extent(trials=12, finalists=12, seeds=1))
    assert all(finalist.values[RATE] <= 0.004 for finalist in result.finalists)
    errors = [trial.user_attrs.get("error") for trial in finished(result.study)]
    assert "the loss is nan" in errors


def test_a_search_without_any_result_says_why(storage: RDBStorage, space: Space) -> None:
    """The last error is in the message."""
    with pytest.raises(TrainingError, match="no trial of hinet-1 could be trained: the loss is nan"):
        run(storage, space, PlantedMeans(diverges_from=0.0))


def test_the_budget_leaves_time_for_the_finalists(storage: RDBStorage, space: Space) -> None:
    """With 0.1 s for a training and 4 trainings of finalists, 2 s end the trials long before the fiftieth."""

    def slow(values: Values, seed: int, report: Report) -> float:
        time.sleep(0.1)
        return PlantedMeans()(values, seed, report)

    start = time.monotonic()
    result = run(storage, space, slow, Extent(trials=50, seconds=2, finalists=1, seeds=2))
    assert 1 <= len(finished(result.study)) <= 16
    assert time.monotonic() - start < 10


def test_one_process_uses_a_file(tmp_path: Path) -> None:
    """A second one is refused, and learns what to do."""
    with (
        open_storage(None, tmp_path, 30),
        pytest.raises(ParameterError, match=r"another process searches with .*--storage"),
        open_storage(None, tmp_path, 30),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres", "--storage postgres: expected an address such as postgresql"),
        ("postgresql+psycopg://user:secret@127.0.0.1:9/db", r"user:\*\*\*@127.0.0.1:9/db cannot be reached: .*refused"),
        ("mysql+nothing://host/db", "its driver is not installed"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, url: str, message: str) -> None:
    """The password is not shown."""
    with pytest.raises(ParameterError, match=message), open_storage(url, tmp_path, 30):
        pass


def test_optuna_is_quiet(storage: RDBStorage, space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    """The bars are all that stderr has."""
    run(storage, space, PlantedMeans())
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert [line for line in lines if line.strip() and "trial" not in line] == []
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
