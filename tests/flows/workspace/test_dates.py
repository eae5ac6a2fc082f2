"""What a flow has done, by logical date: twice is once, and nothing runs behind a newer date."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import PipelineError
from common.paths import ROOT
from flows.workspace.dates import claim, finish

DAY = datetime.date(2026, 1, 17)
NEXT = DAY + datetime.timedelta(days=1)
STATE = Path("artifacts/flows/nightly.json")


def test_a_date_runs_once(workspace: Path) -> None:
    """It runs until it is finished, and not again."""
    assert claim("nightly", DAY) == "run"
    assert claim("nightly", DAY) == "run"  # asked, not finished: the run before was killed
    finish("nightly", DAY)
    assert claim("nightly", DAY) == "done"
    assert claim("nightly", NEXT) == "run"


def test_nothing_runs_behind_a_newer_date(workspace: Path) -> None:
    """A late run finds that a newer one is done, and finishing it changes nothing."""
    finish("nightly", NEXT)
    assert claim("nightly", DAY) == "newer"
    finish("nightly", DAY)
    assert claim("nightly", NEXT) == "done"


def test_flows_have_their_own_dates(workspace: Path) -> None:
    """What one has done says nothing of another."""
    finish("nightly", DAY)
    assert claim("hourly", DAY) == "run"


def test_moments_compare_across_zones(workspace: Path) -> None:
    """A date is its midnight in UTC; a moment without a zone is refused."""
    finish("nightly", DAY)
    east = datetime.timezone(datetime.timedelta(hours=9))
    assert claim("nightly", datetime.datetime(2026, 1, 17, 9, tzinfo=east)) == "done"
    assert claim("nightly", datetime.datetime(2026, 1, 17, 10, tzinfo=east)) == "run"
    with pytest.raises(PipelineError, match="with its zone, found 2026-01-17T10:00"):
        claim("nightly", datetime.datetime(2026, 1, 17, 10))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"done": "soon"}', '{"done": 7}'])
def test_a_damaged_state_is_named(workspace: Path, text: str) -> None:
    """The file, what it should hold, and what to do."""
    STATE.parent.mkdir(parents=True)
    STATE.write_text(text)
    with pytest.raises(PipelineError, match=r"nightly.json: expected .*remove it to run anew"):
        claim("nightly", DAY)


FINISH = """
import datetime, sys
from flows.workspace.dates import claim, finish
first, last, step = map(int, sys.argv[1:])
for day in range(first, last, step):
    finish("nightly", datetime.date(2026, 1, 1) + datetime.timedelta(days=day))
    assert claim("nightly", datetime.date(2026, 1, 1)) in ("done", "newer")
"""


def test_two_processes_leave_the_newest_date(workspace: Path) -> None:
    """One finishes even days upwards, one odd days downwards, at once: the newest stands, whole at all times."""
    commands = (["0", "200", "2"], ["199", "0", "-2"])
    environment = {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", FINISH, *days], env=environment) for days in commands]
    while any(one.poll() is None for one in both):
        if STATE.exists():
            assert set(json.loads(STATE.read_text())) == {"done"}
    assert [one.returncode for one in both] == [0, 0]
    assert json.loads(STATE.read_text()) == {"done": "2026-07-19T00:00:00+00:00"}
    assert sorted(path.name for path in STATE.parent.iterdir()) == ["nightly.json", "nightly.lock"]
