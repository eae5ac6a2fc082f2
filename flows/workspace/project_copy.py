"""A workspace beside the user's: a copy of the project's own files, with git and DVC of its own. Its clock can be set.

The cache of DVC is shared: what was made from the same bytes is not made again. Nothing else of the user's is written.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml

from common import params
from common.errors import ParameterError

HOOKED = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")  # set where a hook of git runs us
SOMEBODY = ("-c", "user.name=backtest", "-c", "user.email=backtest@localhost", "-c", "core.hooksPath=/dev/null")


def lay_out(project: Path, settings: Mapping[str, str]) -> None:
    """Copy the project of the current folder to `project`, with other parameters; by rename, as a whole.

    Raises ParameterError where a parameter is unknown, or has a value that it cannot have.
    """
    partial = project.with_name(f".{project.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in own_files():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, partial / name)
    log = Path(params.load().dataset.path).absolute()
    set_params(partial / "params.yaml", {"dataset.path": str(log)} | {k: value(v) for k, v in settings.items()})
    (partial / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache()}\n")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "as it was"]):
        git(*command, folder=partial)
    partial.rename(project)


def own_files() -> list[str]:
    """The files of the current folder that git knows, and those that it would take, as they are now."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=Path())
    return [name for name in dict.fromkeys(listed.split("\0")) if name and Path(name).is_file()]


def cache() -> Path:
    """Where the DVC of the current folder keeps what it made."""
    with contextlib.closing(Repo()) as repo:
        return Path(repo.cache.local.path)


def set_params(path: Path, changes: Mapping[str, Any]) -> None:
    """Set parameters by their dotted names; raises ParameterError where there is none of that name, or it is wrong."""
    with modify_yaml(path) as plain:
        for name, new in changes.items():
            *sections, key = name.split(".")
            found = plain
            for section in sections:
                found = found.get(section) if isinstance(found, dict) else None
            if not isinstance(found, dict) or key not in found:
                raise ParameterError(f"{name}={new}: {path.name} has no parameter of that name")
            found[key] = new
    params.load(path)


def value(text: str) -> Any:
    """A value as YAML has it; a date stays text, for DVC knows none."""
    found = yaml.safe_load(text)
    return found if isinstance(found, str | int | float | bool | list | dict | None) else text


def git(*command: str, folder: Path) -> str:
    """What git says in `folder`; raises ParameterError where it refuses."""
    environment = {name: held for name, held in os.environ.items() if name not in HOOKED}
    done = subprocess.run(
        ["git", *SOMEBODY, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ParameterError(f"{folder.absolute()}: `git {command[0]}` failed: {done.stderr.strip()}")
    return done.stdout
