"""A clone of the project with a small simulation, in which a test can run the whole pipeline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.pipeline.small_project import merged
from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml

SMALL = {
    "dataset": {"simulation": {"impressions": 9000, "users": 150, "items": 80}},
    "encode": {"minimum_count": 2},
    "train": {"epochs": 2, "batch_size": 512},
}
REPRO = [sys.executable, "-m", "dvc", "repro"]  # what `make run` runs


def clone(folder: Path) -> Path:
    """Copy the files that git tracks or would add to `folder`, with a small simulation and its own git; returns it."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).exists() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    params = merged(read_yaml(ROOT / "params.yaml"), SMALL)
    (folder / "params.yaml").write_text(dump_yaml(params), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "Clone"], cwd=folder, check=True)
    return folder


def repro(folder: Path) -> subprocess.CompletedProcess[str]:
    """`dvc repro` in `folder`."""
    return subprocess.run(REPRO, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def environment() -> dict[str, str]:
    """The environment in which stages use the Python of this test."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "PYTHONPATH": ""}
