"""The whole pipeline in a clone with a small simulation: run, run again, killed and run again."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.project_clone import REPRO, clone, environment, repro

pytestmark = pytest.mark.process

STAGES = [
    "ingest",
    "validate",
    "aggregate",
    "join",
    "inspect_training",
    "materialize",
    "inspect_online",
    "encode",
    "inspect_tensors",
    "summarize",
    "train",
    "evaluate",
    "package",
    "drift",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the pipeline has run once, undisturbed."""
    folder = clone(tmp_path_factory.mktemp("undisturbed"))
    done = repro(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_one_command_makes_everything_that_a_user_looks_at(finished: Path) -> None:
    """Reports, metrics of the models and the limit, model, online store and bento exist after `dvc repro`."""
    metrics = json.loads((finished / "reports" / "metrics.json").read_text())
    assert list(metrics) == ["hinet_plus", "hinet", "shared_bottom", "limit"]
    cells = {(cell["scenario"], cell["task"]) for cell in metrics["hinet_plus"]["cells"]}
    assert len(cells) == len(metrics["hinet_plus"]["cells"]) == 12
    for model in ("hinet_plus", "hinet", "shared_bottom"):
        assert metrics[model]["mean_auc"] < metrics["limit"]["mean_auc"]
    for name in ("validation", "inspection/training", "inspection/tensors", "inspection/online"):
        assert json.loads((finished / "reports" / f"{name}.json").read_text())["passed"]
        assert (finished / "reports" / name / "index.html").stat().st_size > 0
    for path in ("artifacts/online.db", "artifacts/bento/bento.yaml"):
        assert (finished / path).stat().st_size > 0


def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    """`dvc repro` reports that every stage is up to date."""
    done = repro(finished)
    assert "Data and pipelines are up to date." in done.stdout
    assert done.stdout.count("didn't change, skipping") == len(STAGES) + 2  # three models


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_in_every_stage_it_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    """Kill -9 of the whole run in each stage, at a random time; the next `dvc repro` goes on; the bytes are equal."""
    folder, rng = clone(tmp_path), random.Random(7)
    for name in STAGES:
        assert killed_in(folder, name, rng), f"{name} was over before it could be killed"
    done = repro(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (folder / "dvc.lock").read_text() == (finished / "dvc.lock").read_text()
    assert "Data and pipelines are up to date." in repro(folder).stdout


def killed_in(folder: Path, stage: str, rng: random.Random) -> bool:
    """Kill a run while it is in `stage`, at a random time; a stage that was over too soon is forced to run again."""
    again = ["--force", "--single-item", "train@hinet_plus" if stage == "train" else stage]
    return any(
        kill_during(folder, stage, rng.uniform(0, 3 / 2**attempt), again if attempt else []) for attempt in range(8)
    )


def kill_during(folder: Path, stage: str, seconds: float, options: list[str]) -> bool:
    """Run until `stage` runs, kill the whole process group some seconds later; whether the stage was hit."""
    run = subprocess.Popen(
        [*REPRO, *options],
        cwd=folder,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None:
        if running(run.pid, f".{stage}"):
            time.sleep(seconds)
            hit = running(run.pid, f".{stage}")
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return hit
        time.sleep(0.05)
    return False


def running(parent: int, stage: str) -> bool:
    """Whether a process below `parent` runs the module of the stage."""
    try:
        below = psutil.Process(parent).children(recursive=True)
        return any(part.endswith(stage) for process in below for part in process.cmdline())
    except psutil.Error:
        return False
