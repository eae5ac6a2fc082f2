"""Small projects in which the commands of docs/how-to/experiments-with-dvc.md are run, and an S3 server for them."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml
from tests.support.training import encoded_world
from tests.support.waiting import wait_until

PAGE = ROOT / "docs" / "how-to" / "experiments-with-dvc.md"
CODE = ("common", "features", "models", ".dvc", ".dvcignore", "params.yaml", "data/warm_start")
S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 128, "device": "cpu"}


def commands(heading: str, page: Path = PAGE, language: str = "sh") -> list[str]:
    """The blocks of commands, or of another language, below a heading of the page, in its order."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def environment(**others: str) -> dict[str, str]:
    """The environment of somebody who has activated the .venv of this test."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "COLUMNS": "400", **others}


def typed(block: str, folder: Path, **others: str) -> str:
    """Type a block of commands into a shell in `folder`; what they print. The test fails where one of them fails."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment(**others),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def commit(folder: Path) -> None:
    """Make `folder` a git repository, if it is none, and commit everything in it."""
    git = "git -c user.name=test -c user.email=test@example.org -c core.hooksPath=/dev/null"
    typed(f"git init --quiet; git add --all; {git} commit --quiet --message 'All files'", folder)


def training_project(folder: Path) -> Path:
    """The stage `train` of this project on a tiny encoded world, with the metrics and plots of dvc.yaml; returns it."""
    copy_code(folder)
    graph = read_yaml(ROOT / "dvc.yaml")
    graph["stages"] = {"train": graph["stages"]["train"]}
    graph["plots"] = [plot for plot in graph["plots"] if "live" in next(iter(plot))]
    (folder / "dvc.yaml").write_text(dump_yaml(graph))
    params = read_yaml(folder / "params.yaml")
    params["train"] |= SMALL
    (folder / "params.yaml").write_text(dump_yaml(params))
    (folder / ".gitignore").write_text("__pycache__/\n/artifacts/models/\n/artifacts/live/\n/artifacts/checkpoints/\n")
    write_world(folder)
    commit(folder)
    return folder


def ingest_project(folder: Path, reader: str) -> Path:
    """The stage `ingest` with the reader `shop` and its log, neither of them tracked; returns the folder."""
    copy_code(folder)
    (folder / ".gitignore").write_text("__pycache__/\n/data/\n")
    (folder / "dvc.yaml").write_text(
        dump_yaml({"stages": {"ingest": read_yaml(ROOT / "dvc.yaml")["stages"]["ingest"]}})
    )
    params = read_yaml(folder / "params.yaml")
    params["dataset"] |= {"name": "features.datasets.shop", "path": "my-log"}
    (folder / "params.yaml").write_text(dump_yaml(params))
    commit(folder)
    (folder / "features" / "datasets" / "shop.py").write_text(reader)
    _write_shop(folder / "my-log")
    return folder


def tiny_project(folder: Path) -> Path:
    """A graph of one stage that copies a file, with the settings of this project's DVC; returns the folder."""
    folder.mkdir()
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "*.local"))
    (folder / "raw").write_text("1\n")
    copied = {"cmd": "cp raw copied", "deps": ["raw"], "outs": ["copied"]}
    (folder / "dvc.yaml").write_text(dump_yaml({"stages": {"copy": copied}}))
    typed("git init --quiet; dvc repro", folder)
    commit(folder)
    return folder


@contextmanager
def s3_server(port: int) -> Iterator[str]:
    """An S3 server on this machine with the bucket `hinet`; its address."""
    command = [str(Path(sys.executable).parent / "moto_server"), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    def has_bucket() -> bool:
        try:
            return httpx.put(f"{address}/hinet", timeout=20).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(has_bucket)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def copy_code(folder: Path) -> None:
    """Copy the packages up to `models`, with the parameters and the settings of DVC, to `folder`."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *CODE]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def write_world(folder: Path, rows: int = 900) -> None:
    """The inputs of the stage `train`, from so many rows of the tiny world, where dvc.yaml has them."""
    world = folder / "world"
    world.mkdir()
    files = encoded_world(world, rows=rows)
    moves = {
        files["schema"]: "data/schema.json",
        files["views"]: "data/features/views.json",
        files["tensors"]: "data/tensors",
        files["training"] / "train.parquet": "data/training/train.parquet",
        files["training"] / "valid.parquet": "data/training/valid.parquet",
        files["encoder"]: "artifacts/encoder.parquet",
        files["reference"]: "artifacts/reference.json",
    }
    for source, name in moves.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, folder / name)
    shutil.rmtree(world)
    (folder / "reports" / "inspection").mkdir(parents=True)
    for name in ("training", "tensors"):
        (folder / "reports" / "inspection" / f"{name}.json").write_text("{}")


def _write_shop(folder: Path) -> None:
    """A log of the reader `shop` over nine days."""
    folder.mkdir()
    numbers = range(90)
    events = {
        "timestamp": [f"2026-01-{1 + number % 9:02d} 10:00" for number in numbers],
        "user_id": [1 + number % 7 for number in numbers],
        "item_id": [1 + number % 5 for number in numbers],
        "scenario": [("home", "search")[number % 2] for number in numbers],
        "click": [number % 3 % 2 for number in numbers],
        "order": [0 for _ in numbers],
    }
    pd.DataFrame(events).to_csv(folder / "events.csv", index=False)
    pd.DataFrame({"user_id": range(1, 8), "city": "Oslo"}).to_csv(folder / "users.csv", index=False)
    pd.DataFrame({"item_id": range(1, 6), "price": 1.5}).to_csv(folder / "items.csv", index=False)
