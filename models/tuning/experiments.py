"""Values of parameters as experiments of DVC."""

import json
import shlex
import subprocess
from collections.abc import Sequence

from common.errors import PipelineError
from models.tuning.finalists import Finalist, changes
from models.tuning.parameters import Values


def experiment_command(values: Values, *options: str) -> list[str]:
    """The command of an experiment with these values."""
    changed = [word for name, value in values.items() for word in ("--set-param", f"{name}={_override(value)}")]
    return ["dvc", "exp", "run", *options, *changed]


def shown(command: Sequence[str]) -> str:
    """The command as it is typed."""
    return shlex.join(command)


def queue_experiments(study: str, finalists: Sequence[Finalist], current: Values) -> list[str]:
    """Queue each finalist but params.yaml as an experiment; their names. Raises PipelineError with DVC's message."""
    names = []
    for finalist in finalists[1:]:
        name = f"{study}-{finalist.name.replace(' ', '-')}"
        command = experiment_command(changes(finalist, current), "--queue", "--name", name)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[:1]
            raise PipelineError(f"{shown(command)} failed: {' '.join(reason)}")
        names.append(name)
    return names


def _override(value: object) -> str:
    """A value in the syntax of Hydra, which DVC reads."""
    return str(value) if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
