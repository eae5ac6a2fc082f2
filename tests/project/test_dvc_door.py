"""The commands of docs/how-to/experiments-with-dvc.md, typed as the page has them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml
from tests.support.dvc_project import (
    S3_KEYS,
    commands,
    commit,
    environment,
    free_port,
    ingest_project,
    s3_server,
    tiny_project,
    training_project,
    typed,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process
LIVE = Path("artifacts/live/shared_bottom")


def test_a_folder_as_remote_gives_a_colleague_the_outputs(tmp_path: Path) -> None:
    """What `dvc push` sends to a folder, `dvc pull` brings into a clone beside it."""
    push, pull, *_ = commands("Share data and models")
    folder = tiny_project(tmp_path / "own")
    typed(push, folder)
    commit(folder)
    typed("git clone --quiet own clone", tmp_path)
    typed(pull, tmp_path / "clone")
    assert (tmp_path / "clone" / "copied").read_text() == "1\n"


@pytest.mark.slow
def test_s3_as_remote_pushes_pulls_and_collects(tmp_path: Path) -> None:
    """Push to S3, lose the cache, pull; gc removes there what no commit names and keeps the rest."""
    _, pull, push, collect = commands("Share data and models")
    folder, port = tiny_project(tmp_path / "own"), free_port()
    with s3_server(port) as address:
        typed(push.replace("http://127.0.0.1:9000", address), folder, **S3_KEYS)
        commit(folder)
        first = objects(address)
        shutil.rmtree(folder / ".dvc" / "cache")
        (folder / "copied").unlink()
        typed(pull, folder, **S3_KEYS)
        assert (folder / "copied").read_text() == "1\n"

        (folder / "raw").write_text("of no commit\n")
        typed("dvc repro; dvc push; git checkout --quiet .; dvc checkout", folder, **S3_KEYS)
        assert len(objects(address)) > len(first) > 0
        typed(collect, folder, **S3_KEYS)
        assert data_of(objects(address)) == data_of(first)
        typed(f"rm -rf .dvc/cache copied; {pull}", folder, **S3_KEYS)
        assert (folder / "copied").read_text() == "1\n"


def objects(address: str) -> set[str]:
    """The keys in the bucket."""
    return set(re.findall(r"<Key>(.*?)</Key>", httpx.get(f"{address}/hinet", timeout=20).text))


def data_of(keys: set[str]) -> set[str]:
    """The keys of outputs; the run cache has others."""
    return {key for key in keys if "/files/" in key}


@pytest.mark.slow
def test_an_own_log_and_reader_are_read_in_a_copy(tmp_path: Path) -> None:
    """After the `git add` and `dvc add` of the page, or with --copy-paths, an experiment in a copy reads the log."""
    reader = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
    folder = ingest_project(tmp_path / "shop", reader)
    tracked, copied = commands("Your own log and reader")
    typed(tracked, folder)
    typed("git rm --quiet --cached my-log.dvc; rm my-log.dvc; git checkout --quiet HEAD .gitignore", folder)
    typed(copied, folder)
    assert {"until-february", "until-january"} <= names_of(folder)
    assert not (folder / "data" / "ingested").exists(), "the workspace was written"
    typed("dvc exp apply until-january", folder)
    counts = json.loads((folder / "data" / "ingested" / "counts.json").read_text())
    assert counts["rows_read"] == 90


@pytest.mark.slow
def test_the_curves_are_shown_while_a_network_is_trained(tmp_path: Path) -> None:
    """While `dvc repro` runs, the commands of the page show losses and AUC of the epochs so far."""
    folder = training_project(tmp_path / "project")
    params = read_yaml(folder / "params.yaml")
    params["train"] |= {"epochs": 100_000, "patience": 100_000}
    (folder / "params.yaml").write_text(dump_yaml(params))
    (block,) = commands("Watch a training")
    run = subprocess.Popen(
        ["dvc", "repro", "train@shared_bottom"], cwd=folder, env=environment(), start_new_session=True
    )
    try:
        rows = folder / LIVE / "plots" / "metrics" / "epoch" / "valid_mean_auc.tsv"
        wait_until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 3, seconds=120)
        shown = typed(block, folder)
        assert run.poll() is None, "the training ended before it was looked at"
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert "epoch.valid_mean_auc" in shown
    page = (folder / "reports" / "page" / "index.html").read_text()
    assert "Loss of the training batches" in page
    assert page.count("valid_mean_auc") > 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_experiments_are_queued_compared_and_kept(tmp_path: Path) -> None:
    """Two at once from the queue, one in a copy; the better one is applied, another becomes a branch."""
    folder = training_project(tmp_path / "project")
    typed("dvc repro", folder)
    commit(folder)
    queue, run_all, in_copy = commands("Try parameters in a queue")
    compare, keep = commands("Compare and keep")
    typed(queue, folder)
    wait_until(lambda: {"slow", "fast"} <= names_of(folder), seconds=300)
    wait_until(lambda: "Worker status: 0 active, 0 idle" in typed("dvc queue status", folder), seconds=120)
    typed(run_all, folder)
    typed(in_copy, folder)
    assert typed("git status --porcelain --untracked-files=no", folder) == "", "the workspace changed"
    assert names_of(folder) == {"slow", "fast", "narrow", "unaveraged"}

    shown = typed(compare, folder)
    assert "epoch.valid_mean_auc" in shown
    assert "train.learning_rate" in shown
    typed(keep, folder)
    assert read_yaml(folder / "params.yaml")["train"]["learning_rate"] == 0.01
    assert last_loss(folder) == json.loads((folder / LIVE / "metrics.json").read_text())["epoch"]["train_loss"]
    assert "slower-learning" in typed("git branch", folder)
    assert names_of(folder) == {"fast"}
    assert "up to date" in typed("dvc repro train@shared_bottom", folder)


def names_of(folder: Path) -> set[str]:
    """The names of the experiments that ended."""
    return set(typed("dvc exp list --all-commits --name-only", folder).split())


def last_loss(folder: Path) -> float:
    """The training loss of the last epoch in the curve."""
    with (folder / LIVE / "plots" / "metrics" / "epoch" / "train_loss.tsv").open() as file:
        return float(list(csv.DictReader(file, delimiter="\t"))[-1]["train_loss"])
