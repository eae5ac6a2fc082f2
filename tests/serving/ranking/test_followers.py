"""What running services say of themselves beside the link that they follow."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import ROOT
from serving.ranking.followers import FOLLOWERS, Follower, followers

pytestmark = pytest.mark.unit

HOLDS = """
import sys, time
from pathlib import Path
from serving.ranking.followers import Follower
follower = Follower.of(Path(sys.argv[1]), Path(sys.argv[1]).resolve(), 5)
print("follows", flush=True)
time.sleep(600)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder behind a link, in a folder of releases."""
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "champion").symlink_to("a")
    return tmp_path / "champion" / "model"


def test_a_follower_says_what_it_has_in_use_and_what_it_refused(model: Path, tmp_path: Path) -> None:
    """Until it is closed; then nothing is left."""
    follower = Follower.of(model, model.resolve(), 5)
    assert follower is not None
    assert [(one.in_use, one.refused, one.seconds) for one in followers(tmp_path)] == [("a", None, 5)]
    follower.refused(tmp_path / "b" / "model", "another schema")
    (one,) = followers(tmp_path)
    assert (one.in_use, one.refused, one.reason) == ("a", "b", "another schema")
    assert str(os.getpid()) in one.process
    follower.took(tmp_path / "b" / "model")
    assert [(one.in_use, one.refused) for one in followers(tmp_path)] == [("b", None)]
    follower.close()
    assert followers(tmp_path) == []
    assert list((tmp_path / FOLLOWERS).iterdir()) == []


def test_a_follower_that_was_killed_is_not_counted(model: Path, tmp_path: Path) -> None:
    """The kernel releases its lock, and what it left is removed."""
    command, environment = [sys.executable, "-c", HOLDS, str(model)], {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "follows\n"
        assert [one.process.split()[0] for one in followers(tmp_path)] == [str(process.pid)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert followers(tmp_path) == []
    assert list((tmp_path / FOLLOWERS).iterdir()) == []


def test_a_plain_folder_or_a_read_only_one_has_no_followers(tmp_path: Path) -> None:
    """A service on a model folder follows no link; where nothing can be written, it serves all the same."""
    (tmp_path / "model").mkdir()
    assert Follower.of(tmp_path / "model", tmp_path / "model", 5) is None
    assert followers(tmp_path) == []
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "a").mkdir()
    (tmp_path / "releases" / "champion").symlink_to("a")
    (tmp_path / "releases" / FOLLOWERS).touch()  # a file where the folder would be
    assert Follower.of(tmp_path / "releases" / "champion" / "model", tmp_path / "releases/a/model", 5) is None
