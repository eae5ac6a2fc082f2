"""A release as a commit: on a separate branch, whatever Git is configured for, and nothing else is touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ReleaseError
from common.paths import ROOT
from release.provenance import Repository

pytestmark = pytest.mark.process

NOBODY = 12345  # a user that no file of the system knows
SIGNS = f"""
import json, os, pwd
from pathlib import Path
from release.provenance import Repository
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
repository = Repository(Path())
repository.commit("release", dict(event="release", tag="abc", previous=None), "Release abc")
print(json.dumps(repository.signature()))
"""
RECORD = {"event": "release", "tag": "abc", "previous": None}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project in a folder of a repository, on a machine whose Git has no user configured."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "inner" / "reports").mkdir(parents=True)
    (tmp_path / "outer.txt").write_text("1")
    for name in ("dvc.lock", "params.yaml", "reports/metrics.json", "reports/gone.json", "code.py"):
        (tmp_path / "inner" / name).write_text("1")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=tmp_path, check=True)
    return Repository(tmp_path / "inner")


def git(repository: Repository, *command: str) -> str:
    """The output of a Git command in the project."""
    done = subprocess.run(["git", *command], cwd=repository.root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(repository: Repository, message: str) -> str:
    """Commit everything as the user would; returns the commit."""
    git(repository, "add", "--all", ":/")
    git(repository, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "--quiet", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def test_a_release_before_the_first_commit_has_no_parent(repository: Repository) -> None:
    """And its author is the login."""
    released = repository.commit("release", RECORD, "Release abc")
    assert git(repository, "log", "--format=%H %P", "release") == released
    names = git(repository, "ls-tree", "-r", "--name-only", "--full-tree", "release").splitlines()
    assert names == [
        f"inner/{name}"
        for name in ("dvc.lock", "params.yaml", "reports/gone.json", "reports/metrics.json", "reports/release.json")
    ]
    assert git(repository, "status", "--porcelain") == "?? inner/\n?? outer.txt"


def test_a_release_stands_on_the_code_and_on_the_release_before(repository: Repository) -> None:
    """In a folder of a repository: files outside are as committed, a report that was removed is removed."""
    first = commit(repository, "first")
    one = repository.commit("release", RECORD, "Release abc")
    second = commit_change(repository)
    (repository.root / "reports" / "gone.json").unlink()
    two = repository.commit("release", RECORD | {"tag": "def", "previous": "abc"}, "Release def")
    three = repository.commit("release", RECORD | {"tag": "ghi", "previous": "def"}, "Release ghi")
    parents = [
        line.split() for line in git(repository, "log", "--format=%H %P", "--first-parent", "release").splitlines()
    ]
    assert parents == [[three, two], [two, one, second], [one, first], [first]]
    names = git(repository, "ls-tree", "-r", "--name-only", "--full-tree", "release").splitlines()
    assert "outer.txt" in names
    assert "inner/reports/gone.json" not in names
    assert json.loads(git(repository, "show", "release:inner/reports/release.json"))["tag"] == "ghi"
    assert git(repository, "show", "release:inner/code.py") == "2"


def commit_change(repository: Repository) -> str:
    """Change the code as the user would; returns the commit."""
    (repository.root / "code.py").write_text("2")
    return commit(repository, "second")


def test_the_same_release_is_committed_once(repository: Repository) -> None:
    """Whatever the other fields of the record are."""
    commit(repository, "first")
    one = repository.commit("release", RECORD | {"when": "now"}, "Release abc")
    assert repository.commit("release", RECORD | {"when": "then"}, "Release abc") == one


def test_hooks_of_the_user_do_not_run(repository: Repository) -> None:
    """Not even one that rejects every change."""
    commit(repository, "first")
    hook = repository.root.parent / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert repository.commit("release", RECORD, "Release abc")


def test_a_branch_that_git_cannot_move_is_an_error(repository: Repository) -> None:
    """With the message of Git, such as that of a lock that a killed Git left behind."""
    commit(repository, "first")
    (repository.root.parent / ".git" / "refs" / "heads" / "release.lock").touch()
    with pytest.raises(ReleaseError, match=r"`git update-ref` failed, nothing is released: .*release\.lock"):
        repository.commit("release", RECORD, "Release abc")


def test_the_changed_files_are_code_and_not_what_a_release_commits(repository: Repository) -> None:
    """A reader of the record sees that the code was not exactly that of the commit."""
    commit(repository, "first")
    for name in ("code.py", "dvc.lock", "reports/metrics.json"):
        (repository.root / name).write_text("3")
    assert repository.changed() == ["code.py"]


@pytest.mark.skipif(os.getuid() != 0, reason="another user is taken on by root only")
def test_a_user_without_a_name_and_a_home_can_release(repository: Repository) -> None:
    """A container often runs as a user that no file knows: the release is by the number of the user."""
    commit(repository, "first")
    for path in (repository.root.parent, *repository.root.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    done = as_nobody(repository.root, SIGNS)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["who"] == f"uid{NOBODY}"
    for path in (repository.root.parent, *repository.root.parent.rglob("*")):
        os.chown(path, os.getuid(), os.getgid())
    assert git(repository, "log", "-1", "--format=%an %ae %cn", "release") == (
        f"uid{NOBODY} uid{NOBODY}@localhost uid{NOBODY}"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="another user is taken on by root only")
def test_a_repository_of_another_user_is_named_as_the_reason_for_no_commit(repository: Repository) -> None:
    """Git refuses to read it; the release has no commit, and says so."""
    commit(repository, "first")
    done = as_nobody(repository.root, SIGNS)
    assert done.returncode == 0
    note, signature = done.stdout.splitlines()
    assert note.startswith("this release has no commit: ")
    assert "dubious ownership" in note
    assert json.loads(signature)["who"] == f"uid{NOBODY}"


def as_nobody(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in `folder` as a user without a name and a home, as in a container."""
    for path in folder.parents:
        if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o711 != 0o711:
            path.chmod(0o711)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_without_a_repository_nothing_is_committed(tmp_path: Path) -> None:
    """And no revision is known."""
    repository = Repository(tmp_path)
    assert (repository.commit("release", RECORD, "Release abc"), repository.revision(), repository.changed()) == (
        None,
        None,
        [],
    )
