"""The bar of a search: what it shows, and the time that is left."""

import re
import time

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from models.tuning.progress import Progress, time_of

pytestmark = pytest.mark.unit


def complete(value: float) -> optuna.trial.FrozenTrial:
    """A trial with this result."""
    return create_trial(state=TrialState.COMPLETE, value=value)


def test_the_time_left_is_that_of_the_trials(capsys: pytest.CaptureFixture[str]) -> None:
    """At 0.4 s a trial with three epochs, two of twelve leave 4 s; the time of an epoch says nothing of it."""
    progress, done = Progress("hinet-1", 12, 0, time.monotonic() + 60), []
    for trial in range(2):
        for epoch in (1, 2, 3):
            time.sleep(0.4 / 3)
            progress.epoch(trial, epoch, 0.7)
        done.append(complete(0.7 + 0.01 * trial))
        progress.trials(done)
    progress.close()
    line = capsys.readouterr().err.split("\r")[-1]
    assert "2/12" in line
    assert "best=0.7100" in line
    assert "epoch=3: 0.7000" in line
    assert re.search(r"budget_left=00:5\d", line)
    (left,) = re.findall(r"<00:(\d\d)", line)
    assert 3 <= int(left) <= 30  # a busy machine takes longer


def test_trials_of_earlier_runs_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    """They do not count for the time."""
    progress = Progress("hinet-1", 10, 4)
    progress.trials([complete(0.7)] * 5)
    progress.close()
    assert "5/10" in capsys.readouterr().err.split("\r")[-1]


def test_the_mean_time_is_of_complete_trials() -> None:
    """Without one it is nothing."""
    assert time_of([]) == 0
    assert time_of([create_trial(state=TrialState.PRUNED)]) == 0
