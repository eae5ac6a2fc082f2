"""A release as a commit: on a branch of its own, whatever git knows, and nothing else is touched."""

import json
import subprocess
from pathlib import Path

import pytest

from common.errors import ReleaseError
from release.provenance import Repository

RECORD = {"event": "release", "tag": "abc", "previous": None}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project in a folder of a repository, on a machine whose git was never told who its user is."""
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


def git(held: Repository, *command: str) -> str:
    """What git says in the project."""
    done = subprocess.run(["git", *command], cwd=held.root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(held: Repository, message: str) -> str:
    """Commit everything as the user would; returns the commit."""
    git(held, "add", "--all", ":/")
    git(held, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "--quiet", "-m", message)
    return git(held, "rev-parse", "HEAD")


def test_a_release_before_the_first_commit_has_no_parent(repository: Repository) -> None:
    """And none to name: the login is the author."""
    made = repository.commit("release", RECORD, "Release abc")
    assert git(repository, "log", "--format=%H %P", "release") == made
    names = git(repository, "ls-tree", "-r", "--name-only", "--full-tree", "release").splitlines()
    assert names == [
        f"inner/{name}"
        for name in ("dvc.lock", "params.yaml", "reports/gone.json", "reports/metrics.json", "reports/release.json")
    ]
    assert git(repository, "status", "--porcelain") == "?? inner/\n?? outer.txt"


def test_a_release_stands_on_the_code_and_on_the_release_before(repository: Repository) -> None:
    """In a folder of a repository: what lies outside is as committed, what is gone from the reports is gone."""
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


def commit_change(held: Repository) -> str:
    """Change the code as the user would; returns the commit."""
    (held.root / "code.py").write_text("2")
    return commit(held, "second")


def test_the_same_release_is_committed_once(repository: Repository) -> None:
    """Whatever else stands in the record."""
    commit(repository, "first")
    one = repository.commit("release", RECORD | {"when": "now"}, "Release abc")
    assert repository.commit("release", RECORD | {"when": "then"}, "Release abc") == one


def test_hooks_of_the_user_do_not_run(repository: Repository) -> None:
    """A hook that refuses everything refuses nothing here."""
    commit(repository, "first")
    hook = repository.root.parent / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert repository.commit("release", RECORD, "Release abc")


def test_a_branch_that_git_cannot_move_is_told(repository: Repository) -> None:
    """In git's words, such as of the lock that a killed git left behind."""
    commit(repository, "first")
    (repository.root.parent / ".git" / "refs" / "heads" / "release.lock").touch()
    with pytest.raises(ReleaseError, match=r"`git update-ref` failed, nothing is released: .*release\.lock"):
        repository.commit("release", RECORD, "Release abc")


def test_changed_names_the_code_and_not_what_a_release_commits(repository: Repository) -> None:
    """What a reader of the record has to know: the code was not quite that of the commit."""
    commit(repository, "first")
    for name in ("code.py", "dvc.lock", "reports/metrics.json"):
        (repository.root / name).write_text("3")
    assert repository.changed() == ["code.py"]


def test_without_a_repository_nothing_is_committed(tmp_path: Path) -> None:
    """And nothing is known."""
    held = Repository(tmp_path)
    assert (held.commit("release", RECORD, "Release abc"), held.revision(), held.changed()) == (None, None, [])
