"""A release as a commit on a separate branch, made without touching the user's working tree.

It uses Git's plumbing with an index in a temporary folder: neither HEAD nor the user's index nor a file of the tree is
written, so that uncommitted work stays as it is.
"""

import getpass
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.errors import ReleaseError

RELEASE = "reports/release.json"  # only in the commits of the branch
FILES = ("dvc.lock", "params.yaml", "reports")
_FAILED = "nothing is released: "


class Repository:
    """The Git repository of the folder `root`; without one, nothing is committed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def revision(self) -> str | None:
        """The commit that is checked out; None without a repository, or before its first commit."""
        return self._query("rev-parse", "--verify", "--quiet", "HEAD^{commit}")

    def changed(self) -> list[str]:
        """The tracked files that differ from that commit, except those that a release commits."""
        names = (self._query("diff", "--name-only", "--relative", "HEAD", "--") or "").splitlines()
        return [name for name in names if not name.startswith(FILES)]

    def author(self) -> str:
        """The name of the user as Git knows it, else that of the login."""
        return self._query("config", "user.name") or login()

    def signature(self) -> dict[str, str]:
        """Who acts, and when (UTC)."""
        return {"who": self.author(), "when": datetime.now(UTC).isoformat(timespec="seconds")}

    def check(self, branch: str) -> None:
        """Raise ReleaseError where the branch is checked out: a release would move it under a working tree."""
        trees = self._query("worktree", "list", "--porcelain") or ""
        for block in trees.split("\n\n"):
            if f"branch refs/heads/{branch}" in block.splitlines():
                raise ReleaseError(
                    f"the branch {branch} is checked out in {block.split()[1]}: releases are committed "
                    "to it; check out another one there, or name another by release.branch of "
                    "params.yaml"
                )

    def commit(self, branch: str, record: dict[str, Any], message: str) -> str | None:
        """Commit `record`, dvc.lock, params.yaml and reports to `branch`, unless its last commit is of this release.

        The other files are those of the checked-out commit. Returns the commit, or None without a repository.
        """
        if not self._is_readable():
            return None
        reference = f"refs/heads/{branch}"
        tip, head = self._query("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}"), self.revision()
        if tip is not None and self._released(tip) == _key(record):
            return tip
        tree = self._write_tree(head, record)
        parents = [part for parent in self._parents(tip, head) for part in ("-p", parent)]
        commit = self._run("commit-tree", tree, *parents, "-F", "-", text=message, environment=self._identity())
        self._run("update-ref", "-m", f"release {record['tag']}", reference, commit, tip or "0" * len(commit))
        return commit

    def _is_readable(self) -> bool:
        """Whether there is a repository; one that Git refuses to read, such as another user's, is reported."""
        try:
            self._run("rev-parse", "--git-dir")
        except FileNotFoundError:
            print("this release has no commit: git is not installed", flush=True)
        except ReleaseError as error:
            reason = " ".join(str(error).partition(_FAILED)[2].split())
            if "not a git repository" not in reason:
                print(f"this release has no commit: git does not read the repository: {reason}", flush=True)
        else:
            return True
        return False

    def _released(self, commit: str) -> list[str] | None:
        """The release that a commit records."""
        record = self._query("show", f"{commit}:./{RELEASE}")
        return _key(json.loads(record)) if record else None

    def _parents(self, tip: str | None, head: str | None) -> list[str]:
        """The commit of the release before, and that of the code where the former does not contain it."""
        if tip is None or head is None:
            return [parent for parent in (tip, head) if parent]
        contained = self._query("merge-base", head, tip) == head
        return [tip] if contained else [tip, head]

    def _write_tree(self, head: str | None, record: dict[str, Any]) -> str:
        with TemporaryDirectory(prefix="release-") as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            if head is not None:
                self._run("read-tree", head, environment=index)
            present = [name for name in FILES if (self.root / name).exists()]
            self._run("add", "--all", "--", *present, environment=index)
            blob = self._run("hash-object", "-w", "--stdin", text=json.dumps(record, indent=1) + "\n")
            prefix = self._query("rev-parse", "--show-prefix") or ""
            self._run("update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{RELEASE}", environment=index)
            return self._run("write-tree", environment=index)

    def _identity(self) -> dict[str, str]:
        """The committer where Git knows none: the login, so that a machine without a user's settings can release."""
        if self._query("var", "GIT_COMMITTER_IDENT") is not None and self._query("var", "GIT_AUTHOR_IDENT") is not None:
            return {}
        name, kinds = login(), ("AUTHOR", "COMMITTER")
        return {f"GIT_{kind}_NAME": name for kind in kinds} | {
            f"GIT_{kind}_EMAIL": f"{name}@localhost" for kind in kinds
        }

    def _query(self, *command: str) -> str | None:
        """The output of a Git command; None where it fails."""
        try:
            return self._run(*command)
        except (ReleaseError, FileNotFoundError):
            return None

    def _run(self, *command: str, text: str = "", environment: dict[str, str] | None = None) -> str:
        """The output of a Git command with `text` as its input; runs no hooks, and takes no optional lock.

        Raises ReleaseError where it fails.
        """
        variables = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"} | (environment or {})
        settings = ("-c", "core.hooksPath=/dev/null", "-c", "core.safecrlf=false")
        done = subprocess.run(
            ["git", *settings, *command],
            cwd=self.root,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | variables,
        )
        if done.returncode:
            raise ReleaseError(f"{self.root.absolute()}: `git {command[0]}` failed, {_FAILED}{done.stderr.strip()}")
        return done.stdout.strip()


def login() -> str:
    """The name of the user by the environment or the system, else the number of the user: a container has no names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid{os.getuid()}"


def _key(record: dict[str, Any]) -> list[str]:
    return [record["tag"], str(record["previous"])]
