"""The last line of a release or a rollback: what was observed, and what is left to do."""

import threading
from pathlib import Path

import pytest

from release import takeover
from release.takeover import observe, sentence
from serving.ranking.followers import Follower, Following

pytestmark = pytest.mark.unit
START = "`make champion`"


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """A running service on the release a."""
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "champion").symlink_to("a")
    made = Follower.of(tmp_path / "champion" / "model", tmp_path / "a" / "model", 0.1)
    assert made is not None
    return made


def test_without_a_running_service_nothing_is_claimed(tmp_path: Path) -> None:
    """Only the command that starts one is named."""
    assert sentence("a", observe(tmp_path, "a"), START) == (
        "no running service was seen to follow it: `make champion` starts one"
    )


def test_a_service_that_took_it_up_is_named_once_it_did(tmp_path: Path, follower: Follower) -> None:
    """The command waits for it."""
    threading.Timer(0.5, follower.took, [tmp_path / "b" / "model"]).start()
    running = observe(tmp_path, "b")
    assert [one.in_use for one in running] == ["b"]
    assert sentence("b", running, START).startswith("in use by the running process ")
    follower.close()


def test_a_service_that_refused_it_has_to_be_started_again(tmp_path: Path, follower: Follower) -> None:
    """With its reason."""
    follower.refused(tmp_path / "b" / "model", "it has another schema")
    text = sentence("b", observe(tmp_path, "b"), START)
    assert "serves a on: it has another schema; stop the service and start it again: `make champion`" in text
    follower.close()


def test_a_service_that_says_nothing_is_not_counted_as_one_that_took_it_up(
    tmp_path: Path, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time in which it should have."""
    monkeypatch.setattr(takeover, "LOAD_SECONDS", 0.2)
    text = sentence("b", observe(tmp_path, "b"), START)
    assert "serves a on: it did not answer in time, its log says why" in text
    follower.close()


def test_each_worker_is_named_with_what_it_does() -> None:
    """Of two, one took it up."""
    running = [Following("1 on x", "b", 5), Following("2 on x", "a", 5, refused="b", reason="no memory")]
    assert sentence("b", running, START) == (
        "in use by the running process 1 on x; process 2 on x serves a on: no memory; "
        "stop the service and start it again: `make champion`"
    )
