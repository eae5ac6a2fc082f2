"""A release as a commit on a branch of its own, made without touching what the user is working on.

Git's plumbing with an index of our own in a scratch folder: neither HEAD nor the user's index nor a file of the tree is
written, so that a tree with half-done work in it stays as it is. Standard library only.
"""

import getpass
import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.errors import ReleaseError

RELEASE = "reports/release.json"  # in the commits of the branch alone
FILES = ("dvc.lock", "params.yaml", "reports")


class Repository:
    """The git repository of the folder `root`; without one, nothing is committed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def revision(self) -> str | None:
        """The commit that is checked out; None without a repository, or before its first commit."""
        return self._ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")

    def changed(self) -> list[str]:
        """The tracked files that differ from that commit, less those that a release commits."""
        names = (self._ask("diff", "--name-only", "--relative", "HEAD", "--") or "").splitlines()
        return [name for name in names if not name.startswith(FILES)]

    def author(self) -> str:
        """Who is at work: the name that git knows, else that of the login."""
        return self._ask("config", "user.name") or getpass.getuser()

    def check(self, branch: str) -> None:
        """Refuse to move a branch under somebody's feet; raises ReleaseError where it is checked out."""
        trees = self._ask("worktree", "list", "--porcelain") or ""
        for block in trees.split("\n\n"):
            if f"branch refs/heads/{branch}" in block.splitlines():
                raise ReleaseError(
                    f"the branch {branch} is checked out in {block.split()[1]}: releases are committed "
                    "to it; check out another one there, or name another by release.branch of "
                    "params.yaml"
                )

    def commit(self, branch: str, record: dict[str, Any], message: str) -> str | None:
        """Commit `record`, dvc.lock, params.yaml and reports to `branch`, unless its last commit is of this release.

        On the tree of the commit that is checked out. Returns the commit, or None without a repository.
        """
        if self._ask("rev-parse", "--git-dir") is None:
            return None
        reference = f"refs/heads/{branch}"
        tip, head = self._ask("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}"), self.revision()
        if tip is not None and self._released(tip) == _key(record):
            return tip
        tree = self._write_tree(head, record)
        parents = [part for parent in self._parents(tip, head) for part in ("-p", parent)]
        made = self._run("commit-tree", tree, *parents, "-F", "-", typed=message, more=self._somebody())
        self._run("update-ref", "-m", f"release {record['tag']}", reference, made, tip or "0" * len(made))
        return made

    def _released(self, commit: str) -> list[str] | None:
        """Which release the commit is of."""
        held = self._ask("show", f"{commit}:./{RELEASE}")
        return _key(json.loads(held)) if held else None

    def _parents(self, tip: str | None, head: str | None) -> list[str]:
        """The release before, and the code of this one where that does not hold it yet."""
        if tip is None or head is None:
            return [parent for parent in (tip, head) if parent]
        known = self._ask("merge-base", head, tip) == head
        return [tip] if known else [tip, head]

    def _write_tree(self, head: str | None, record: dict[str, Any]) -> str:
        with TemporaryDirectory(prefix="release-") as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            if head is not None:
                self._run("read-tree", head, more=index)
            there = [name for name in FILES if (self.root / name).exists()]
            self._run("add", "--all", "--", *there, more=index)
            blob = self._run("hash-object", "-w", "--stdin", typed=json.dumps(record, indent=1) + "\n")
            prefix = self._ask("rev-parse", "--show-prefix") or ""
            self._run("update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{RELEASE}", more=index)
            return self._run("write-tree", more=index)

    def _somebody(self) -> dict[str, str]:
        """Who commits where git was not told: the login, so that a machine without a user's settings can release."""
        if self._ask("var", "GIT_COMMITTER_IDENT") is not None and self._ask("var", "GIT_AUTHOR_IDENT") is not None:
            return {}
        name, kinds = getpass.getuser(), ("AUTHOR", "COMMITTER")
        return {f"GIT_{kind}_NAME": name for kind in kinds} | {
            f"GIT_{kind}_EMAIL": f"{name}@localhost" for kind in kinds
        }

    def _ask(self, *command: str) -> str | None:
        """What git answers; None where it knows nothing."""
        try:
            return self._run(*command)
        except (ReleaseError, FileNotFoundError):
            return None

    def _run(self, *command: str, typed: str = "", more: dict[str, str] | None = None) -> str:
        """The answer of git, without hooks, and without the locks that only a courtesy would take."""
        ours = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"} | (more or {})
        settings = ("-c", "core.hooksPath=/dev/null", "-c", "core.safecrlf=false")
        done = subprocess.run(
            ["git", *settings, *command],
            cwd=self.root,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | ours,
        )
        if done.returncode:
            raise ReleaseError(
                f"{self.root.absolute()}: `git {command[0]}` failed, nothing is released: {done.stderr.strip()}"
            )
        return done.stdout.strip()


def _key(record: dict[str, Any]) -> list[str]:
    return [record["tag"], str(record["previous"])]
