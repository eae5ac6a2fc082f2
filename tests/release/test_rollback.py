"""The rollback to an earlier release, and the answers of the service afterwards."""

import shutil
from pathlib import Path

import pytest

from common.errors import ReleaseError
from common.exit_status import REJECTED
from release.promote import promote
from tests.support.release_project import RELEASES, answers, champion, git, make_challenger, records

pytestmark = pytest.mark.integration


def test_a_rollback_restores_the_answers_to_the_byte(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command to the release before; the withdrawn release does not return by itself, but by its tag."""
    promote()
    first, answers_of_first = champion(), answers()
    make_challenger(seed=1)
    assert promote() == 0
    second, answers_of_second = champion(), answers()
    assert second != first
    assert answers_of_second != answers_of_first
    assert "against the champion" in capsys.readouterr().out

    assert promote(rollback=True) == 0
    assert (champion(), answers()) == (first, answers_of_first)
    assert promote() == REJECTED
    assert f"Ada went back from {second}" in capsys.readouterr().out
    assert champion() == first

    assert promote(to=second[:8]) == 0
    assert (champion(), answers()) == (second, answers_of_second)
    assert [(r["event"], r["tag"]) for r in records()] == [
        ("release", first),
        ("release", second),
        ("rollback", first),
        ("rollback", second),
    ]
    assert git("rev-list", "--count", "--first-parent", "release").strip() == "3"  # the first commit, and two releases


def test_there_is_nothing_before_the_first_release(root: Path) -> None:
    """Neither a rollback without any release, nor from the first."""
    with pytest.raises(ReleaseError, match="has no champion yet"):
        promote(rollback=True)
    promote()
    with pytest.raises(ReleaseError, match="is the first release, there is none to go back to"):
        promote(rollback=True)
    with pytest.raises(ReleaseError, match="expected one release nothing, found none"):
        promote(to="nothing")


def test_a_champion_that_was_removed_can_be_replaced(root: Path) -> None:
    """By any release that exists; a challenger is not compared with a missing one."""
    promote()
    first = champion()
    make_challenger(seed=1)
    promote()
    shutil.rmtree(RELEASES / champion())
    with pytest.raises(ReleaseError, match=rf"which is not there: `--to` one of \['{first}'\]"):
        promote()
    assert promote(to=first) == 0
    assert champion() == first
