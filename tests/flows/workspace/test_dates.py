"""The newest logical date that a flow has finished: a date runs once, and never after a newer one."""

import datetime
from pathlib import Path

import pytest

from common.errors import PipelineError
from flows.workspace.dates import mark_done, progress

pytestmark = pytest.mark.unit

DAY = datetime.date(2026, 1, 17)
NEXT = DAY + datetime.timedelta(days=1)
STATE = Path("artifacts/flows/nightly.json")


def test_a_date_runs_once(workspace: Path) -> None:
    """It is due until it is marked as done, and not again."""
    assert progress("nightly", DAY) == "due"
    assert progress("nightly", DAY) == "due"  # the run before was killed
    mark_done("nightly", DAY)
    assert progress("nightly", DAY) == "done"
    assert progress("nightly", NEXT) == "due"


def test_nothing_runs_behind_a_newer_date(workspace: Path) -> None:
    """A late run sees that a newer one is done, and marking it as done changes nothing."""
    mark_done("nightly", NEXT)
    assert progress("nightly", DAY) == "newer"
    mark_done("nightly", DAY)
    assert progress("nightly", NEXT) == "done"


def test_flows_have_their_own_dates(workspace: Path) -> None:
    """The dates of one flow do not count for another."""
    mark_done("nightly", DAY)
    assert progress("hourly", DAY) == "due"


def test_timestamps_compare_across_time_zones(workspace: Path) -> None:
    """A date is its midnight in UTC; a timestamp without a zone is rejected."""
    mark_done("nightly", DAY)
    east = datetime.timezone(datetime.timedelta(hours=9))
    assert progress("nightly", datetime.datetime(2026, 1, 17, 9, tzinfo=east)) == "done"
    assert progress("nightly", datetime.datetime(2026, 1, 17, 10, tzinfo=east)) == "due"
    with pytest.raises(PipelineError, match="with its zone, found 2026-01-17T10:00"):
        progress("nightly", datetime.datetime(2026, 1, 17, 10))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"done": "soon"}', '{"done": 7}'])
def test_a_damaged_state_is_named(workspace: Path, text: str) -> None:
    """The message has the file, its expected content, and what to do."""
    STATE.parent.mkdir(parents=True)
    STATE.write_text(text)
    with pytest.raises(PipelineError, match=r"nightly.json: expected .*remove it to run anew"):
        progress("nightly", DAY)
