"""The promotion of a challenger: registry, branch and record, in a project with uncommitted work in it."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from common.errors import ReleaseError
from models.model_folder import read_model
from release.promote import promote
from release.registry import RECORDS, Registry
from tests.support import tiny_project, world
from tests.support.release_project import RELEASES, champion, git, records, users_files
from tests.support.run_module import run_module

pytestmark = pytest.mark.integration


def test_the_first_release_is_recorded_and_committed_and_touches_no_work(root: Path) -> None:
    """Tree, index and HEAD do not change by a byte; the branch has lock, reports, parameters and the record."""
    tag, before = read_model(tiny_project.MODEL).tag, users_files()
    assert promote() == 0
    assert users_files() == before
    assert champion().startswith(f"{tag}-")
    (record,) = records()
    assert record["tag"] == champion()
    assert (record["event"], record["previous"], record["who"], record["model"]) == ("release", None, "Ada", tag)
    assert (record["bento"], record["revision"]) == (f"hinet:{tag}", git("rev-parse", "main").strip())
    assert record["changed"] == ["code.py", "staged.py"]
    assert len(record["data"]) == len(record["params"]) == 64
    assert set(record["metrics"]["cells"]) <= {f"{s}/{t}" for s in world.schema().scenarios for t in ("click", "order")}
    assert datetime.fromisoformat(record["when"]).utcoffset() is not None
    assert record["commit"] == git("rev-parse", "release").strip()
    shown = {name: git("show", f"release:{name}") for name in ("dvc.lock", "reports/a", "reports/new", "code.py")}
    assert shown == {"dvc.lock": "2", "reports/a": "2", "reports/new": "2", "code.py": "1"}
    assert json.loads(git("show", "release:reports/release.json"))["tag"] == champion()
    assert git("log", "--format=%P", "-1", "release") == git("rev-parse", "main")


def test_a_second_promotion_of_the_champion_changes_nothing(root: Path) -> None:
    """Nothing is evaluated, recorded or committed."""
    promote()
    before, tip = (RELEASES / RECORDS).read_bytes(), git("rev-parse", "release")
    with pytest.raises(ReleaseError):
        promote(verdict=_older_verdict(), bento=Path("absent"))
    assert not Path("artifacts/verdict.json").exists(), "the verdict of an earlier run is none of this one"
    assert promote(verdict=Path("artifacts/verdict.json")) == 0
    assert ((RELEASES / RECORDS).read_bytes(), git("rev-parse", "release")) == (before, tip)
    assert "is the champion already" in json.loads(Path("artifacts/verdict.json").read_text())["rules"][0]["sentence"]


def test_a_release_killed_between_commit_and_link_is_released_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command completes it: one commit, one record."""
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "activate", _die)
        with pytest.raises(KeyboardInterrupt):
            promote()
    tip = git("rev-parse", "release").strip()
    assert champion() is None
    assert promote() == 0
    assert git("rev-parse", "release").strip() == tip == records()[0]["commit"]
    assert len(records()) == 1


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_branch_that_is_checked_out_is_not_moved(root: Path) -> None:
    """A release would move it under a working tree."""
    git("branch", "release")
    git("symbolic-ref", "HEAD", "refs/heads/release")
    with pytest.raises(ReleaseError, match=r"the branch release is checked out in .*project"):
        promote()


def test_without_git_a_release_has_no_commit(root: Path) -> None:
    """Everything else is the same."""
    shutil.rmtree(".git")
    assert promote() == 0
    (record,) = records()
    assert (record["revision"], record["changed"], record["commit"]) == (None, [], None)


def test_a_command_that_fails_has_one_sentence_and_status_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m release.promote --rollback` before the first release."""
    assert run_module("release.promote", "--rollback") == 1
    assert capsys.readouterr().err.strip().endswith("has no champion yet, there is nothing to go back from")


def _older_verdict() -> Path:
    """A verdict that an earlier run has left."""
    path = Path("artifacts/verdict.json")
    path.write_text('{"passed": true, "rules": []}')
    return path
