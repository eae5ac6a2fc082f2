"""Two processes that mark dates as done at once leave the newest date."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.process

STATE = Path("artifacts/flows/nightly.json")
FINISH = """
import datetime, sys
from flows.workspace.dates import mark_done, progress
first, last, step = map(int, sys.argv[1:])
for day in range(first, last, step):
    mark_done("nightly", datetime.date(2026, 1, 1) + datetime.timedelta(days=day))
    assert progress("nightly", datetime.date(2026, 1, 1)) in ("done", "newer")
"""


def test_two_processes_leave_the_newest_date(workspace: Path) -> None:
    """One marks even days upwards, one odd days downwards: the file is whole at all times, and ends with the newest."""
    commands = (["0", "200", "2"], ["199", "0", "-2"])
    environment = {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", FINISH, *days], env=environment) for days in commands]
    while any(one.poll() is None for one in both):
        if STATE.exists():
            assert set(json.loads(STATE.read_text())) == {"done"}
    assert [one.returncode for one in both] == [0, 0]
    assert json.loads(STATE.read_text()) == {"done": "2026-07-19T00:00:00+00:00"}
    assert sorted(path.name for path in STATE.parent.iterdir()) == ["nightly.json", "nightly.lock"]
