"""A copy of the project's own files in another folder, with its own git and DVC, in which the clock can be set.

It shares DVC's cache: outputs of equal inputs are not made again. Nothing else of the user's files is written.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml

from common import params
from common.errors import ParameterError
from common.files import replacing_folder
from common.paths import PARAMS
from common.settings import variable
from common.yaml_file import parse_yaml

HOOK_VARIABLES = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")  # set where a hook of git runs this process
COMMITTER = ("-c", "user.name=backtest", "-c", "user.email=backtest@localhost", "-c", "core.hooksPath=/dev/null")


def copy_project(project: Path, settings: Mapping[str, str]) -> None:
    """Copy the project of the current folder to `project`, with other parameters; whole or not at all.

    Raises ParameterError where a parameter is unknown, or has a value that it cannot have.
    """
    with replacing_folder(project) as partial:
        for name in own_files():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, partial / name)
        log = Path(params.load().dataset.path).absolute()
        changes = {"dataset.path": str(log)} | {name: parse_value(text) for name, text in settings.items()}
        set_params(partial / PARAMS.name, changes)
        (partial / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache_folder()}\n")
        for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "as it was"]):
            git(*command, folder=partial)


@contextlib.contextmanager
def inside(project: Path) -> Iterator[None]:
    """Work in the folder of a copy, without the stores that the environment names for the real project."""
    names = [variable(field) for field in ("redis", "feast_registry", "online_store")]
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        with contextlib.chdir(project):
            yield
    finally:
        os.environ.update(kept)


def own_files() -> list[str]:
    """The files of the current folder that git tracks, and those that it would add, as they are now."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=Path())
    return [name for name in dict.fromkeys(listed.split("\0")) if name and Path(name).is_file()]


def cache_folder() -> Path:
    """The folder of the local cache of the current folder's DVC."""
    with contextlib.closing(Repo()) as repo:
        return Path(repo.cache.local.path)


def set_params(path: Path, changes: Mapping[str, Any]) -> None:
    """Set parameters by their dotted names; raises ParameterError for an unknown name and for a wrong value."""
    with modify_yaml(path) as document:
        for name, new in changes.items():
            *sections, key = name.split(".")
            section = document
            for part in sections:
                section = section.get(part) if isinstance(section, dict) else None
            if not isinstance(section, dict) or key not in section:
                raise ParameterError(f"{name}={new}: {path.name} has no parameter of that name")
            section[key] = new
    params.load(path)


def parse_value(text: str) -> Any:
    """A value as YAML has it; a date stays text, as DVC has no type for it."""
    value = parse_yaml(text, f"the value {text}")
    return value if isinstance(value, str | int | float | bool | list | dict | None) else text


def git(*command: str, folder: Path) -> str:
    """The output of a git command in `folder`; raises ParameterError where git fails."""
    environment = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    done = subprocess.run(
        ["git", *COMMITTER, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ParameterError(f"{folder.absolute()}: `git {command[0]}` failed: {done.stderr.strip()}")
    return done.stdout
