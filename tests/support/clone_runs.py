"""Runs in a fresh clone of a project, by the script that the pods of deploy/kubernetes start with."""

import subprocess
from pathlib import Path

from common.paths import ROOT
from tests.support.dvc_project import environment

SCRIPT = ROOT / "deploy" / "kubernetes" / "base" / "in-clone.sh"


def started(tmp_path: Path, number: int, *command: str, **others: str) -> "subprocess.Popen[str]":
    """A run of `command` in clone `number`; remote and state are folders beside the origin."""
    variables = {
        "GIT_REPOSITORY": str(tmp_path / "own"),
        "DVC_REMOTE": str(tmp_path / "remote"),
        "STATE": str(tmp_path / "state"),
        "PROJECT": str(tmp_path / f"clone{number}"),
    }
    return subprocess.Popen(
        [SCRIPT, *command],
        env=environment(**variables | others),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process: "subprocess.Popen[str]") -> str:
    """What a run printed; the test fails where the run does."""
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    return printed
