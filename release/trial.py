"""The trial start of a release: its own code loads its model and a store, as a worker of the service does.

In a process of its own, in the bento's folder: what the tree has become since, its code included, does not matter.
"""

import os
import subprocess
import sys
from pathlib import Path

from common.errors import ReleaseError
from common.settings import read_settings, variable
from models.model_folder import read_model
from release.registry import BENTO, MODEL
from serving.ranking.model_sources import RELEASED_STORE

START = "from serving.service import RankingService as s; s.inner.check(); s.inner().close()"
SECONDS = 600.0  # after which a start has failed: it takes 10 to 20
UNSET = ("PYTHONPATH", *map(variable, ("impression_log", "shadow", "ab_challenger")))  # a trial is of the release only
ADVICE = (
    "its data can be made again from its commit: `git log release`, `git checkout COMMIT`, `dvc checkout` or `make run`"
)


def check_whole(release: Path) -> None:
    """Start the release in the folder `release` from what that folder holds; raises ReleaseError where it cannot."""
    fault = _fault(release, online=release / RELEASED_STORE, redis=False)
    if fault is not None:
        raise ReleaseError(f"{release.name} does not start from its own folder: {fault}")


def start_command(release: Path) -> str:
    """The command that starts a service on the release as the champion, after a trial start.

    With the store in use where the release takes it, else with its own. Raises ReleaseError where neither works.
    """
    live = Path.cwd() / read_settings().online_store
    fault = _fault(release, online=live, redis=True)
    if fault is None:
        return "`make champion`"
    own = release / RELEASED_STORE
    if not own.is_file():
        raise ReleaseError(
            f"{release.name} cannot be started, nothing is changed: {fault}. It was released without a store of its "
            f"own; {ADVICE}"
        )
    again = _fault(release, online=own, redis=False)
    if again is not None:
        raise ReleaseError(f"{release.name} cannot be started, nothing is changed: {again}; {ADVICE}")
    unset = f"{variable('redis')}= " if read_settings().redis else ""
    return f"`{unset}{variable('online_store')}={own.absolute()} make champion`"


def _fault(release: Path, *, online: Path, redis: bool) -> str | None:
    """Why a worker on the release does not start with the store `online` (or the Redis in use); None if it does."""
    source = release / BENTO / "src"
    if not (source / "serving" / "service.py").is_file():
        read_model(release / MODEL)  # a bento without source is served by whoever made it
        return None
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment |= {
        variable("model"): str((release / MODEL).absolute()),
        variable("online_store"): str(online.absolute()),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if not redis:
        environment.pop(variable("redis"), None)
    command = [sys.executable, "-c", START]
    try:
        done = subprocess.run(
            command, cwd=source, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it was not ready after {SECONDS:.0f} s"
    return None if done.returncode == 0 else _last_sentence(done.stderr, done.returncode)


def _last_sentence(stderr: str, status: int) -> str:
    """The message of the exception that ended a Python process, without its class; else its exit status."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    name, separator, message = lines[-1].partition(": ") if lines else ("", "", "")
    return message if separator and " " not in name else f"{lines[-1] if lines else 'no message'} (status {status})"
