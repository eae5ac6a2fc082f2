"""The workspace of the chaos benchmark, whoever asks its champion all the time, and what to look at afterwards."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from benchmarks.pipeline.stack import Kept, Stack, free_port, wait_for
from common.errors import ModelError
from common.paths import ROOT
from models.model_folder import read_model

REQUEST: dict[str, Any] = {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2]}
SMALL: dict[str, Any] = {
    "dataset": {"simulation": {"impressions": 4000, "users": 80, "items": 40}},
    "encode": {"minimum_count": 2},
    "train": {
        "epochs": 1,
        "batch_size": 512,
        "embedding_width": 4,
        "hinet": {
            "sub_experts": 1,
            "expert_units": [8],
            "task_experts": 1,
            "shared_experts": 1,
            "task_expert_units": [8],
            "tower_units": [8],
            "scenario_width": 4,
        },
        "shared_bottom": {"bottom_units": [8], "tower_units": [8]},
    },
    "release": {"minimum_gain": -1.0, "guard": 0.99, "calibration": 1e9, "sample": 12},  # it learns next to nothing
}


def clone(folder: Path) -> Path:
    """The last commit, with a tiny simulation and a gate that lets everything pass that is whole."""
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        plain = yaml.safe_load((folder / "params.yaml").read_text())
        (folder / "params.yaml").write_text(yaml.safe_dump(merged(plain, SMALL)))
        (folder / "dvc.lock").unlink()
    return folder.resolve()


def merged(plain: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`plain` with `changes` at their places."""
    deep = {name: merged(plain[name], value) for name, value in changes.items() if isinstance(value, dict)}
    return {**plain, **changes, **deep}


TINY = ("ingest", "join", "train", "package")  # a chain: each reads what the one before it wrote
TIMES = 6  # that a stage copies what it reads: a kill in between leaves a part of it
SCRIPT = f"""echo "$1 begins"
rm -f "tiny/$1"
for part in $(seq {TIMES}); do cat "tiny/$2" >> "tiny/$1" || exit 1; sleep 0.7; done
"""


def make_tiny(workspace: Path) -> None:
    """Put a graph of four short stages in the place of the project's; what was released stays."""
    pairs = zip(TINY, ("raw", *TINY), strict=False)
    plain = {
        new: {"cmd": f"sh stage.sh {new} {old}", "deps": ["stage.sh", f"tiny/{old}"], "outs": [f"tiny/{new}"]}
        for new, old in pairs
    }
    (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": plain}, sort_keys=False))
    (workspace / "stage.sh").write_text(SCRIPT)
    (workspace / "tiny").mkdir(exist_ok=True)
    write_raw(workspace)


def write_raw(workspace: Path) -> None:
    """Another log: every stage is stale."""
    (workspace / "tiny" / "raw").write_text(f"{time.time_ns()}\n" * 64)


def copied(workspace: Path) -> bool:
    """Whether each stage wrote all that it had to."""
    expected = (workspace / "tiny" / "raw").read_bytes()
    return all((workspace / "tiny" / name).read_bytes() == (expected := expected * TIMES) for name in TINY)


class Watch:
    """Serves the champion and asks it twice a second: how often it answered, and how often it did not."""

    def __init__(self, made: Stack) -> None:
        self.answers = self.missed = 0
        self.port, self.over, self.workspace = free_port(), threading.Event(), made.workspace
        champion = (made.workspace / "artifacts" / "releases" / "champion").resolve()
        self.service = Kept(
            [sys.executable, "-m", "bentoml", "serve", str(champion / "bento"), "--port", str(self.port)],
            cwd=made.home,
            environment=self._environment(made),
            log=made.home / "service.log",
        )
        self.thread = threading.Thread(target=self._ask_on, daemon=True)

    def _environment(self, made: Stack) -> dict[str, str]:
        """Its own clock, the store that the pipeline writes."""
        store = made.workspace / "artifacts" / "online.db"
        more = {"HINET_ONLINE_STORE": str(store), "BENTOML_HOME": str(made.home / "bentoml"), "LD_PRELOAD": ""}
        return made.environment | more | {"BENTOML_DO_NOT_TRACK": "True"}

    def __enter__(self) -> Self:
        """When it answers for the first time."""
        try:
            wait_for(self._asked, bool, 300)
        except BaseException:
            self.service.stop()
            raise
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the service."""
        self.over.set()
        self.thread.join()
        self.service.stop()

    def _ask_on(self) -> None:
        while not self.over.wait(0.5):
            try:
                good = self._asked()
            except OSError:
                good = False
            self.answers, self.missed = self.answers + good, self.missed + (not good)

    def _asked(self) -> bool:
        url, body = f"http://127.0.0.1:{self.port}/rank", json.dumps(REQUEST).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return sorted(json.loads(answer.read())["item_ids"]) == sorted(REQUEST["candidates"])


def harmed(made: Stack) -> list[str]:
    """What is not whole in the workspace: stages, champion, half-written files, processes that were left."""
    found, root = list[str](), made.workspace
    status = json.loads(made.run(sys.executable, "-m", "dvc", "status", "--json"))
    found += [f"dvc status: {name}" for name in status]
    if (root / "tiny").exists() and not copied(root):
        found.append("a stage wrote a part of its output")
    champion = root / "artifacts" / "releases" / "champion"
    try:
        read_model(champion / "model")
    except (ModelError, OSError) as error:
        found.append(f"champion: {error}")
    halves = [*root.rglob("*.partial"), *(root / "artifacts" / "flows").glob(".*"), *root.glob(".dvc/tmp/*.new")]
    found += [f"half-written: {path.relative_to(root)}" for path in halves if os.path.lexists(path)]
    return found
