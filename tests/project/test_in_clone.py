"""Runs in a fresh clone, as the pods of deploy/kubernetes make them: deploy/kubernetes/base/in-clone.sh."""

import os
import random
import signal
from pathlib import Path

import pytest

from common.yaml_file import read_yaml
from tests.support.clone_runs import output_of, started
from tests.support.dvc_project import S3_KEYS, commit, free_port, s3_server, tiny_project, typed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The repository that the pods clone: one stage, whose output is not in git, and no `dvc.lock`."""
    folder = tiny_project(tmp_path / "own")
    typed("git branch -M main; git rm --quiet --cached dvc.lock; rm -r dvc.lock .dvc/cache", folder)
    commit(folder)
    return folder


def test_the_next_run_goes_on_where_the_last_one_ended(origin: Path, tmp_path: Path) -> None:
    """In another clone the stage is up to date, its output there, and what flows and releases keep is there, too."""
    write = "dvc repro && git branch release && echo done > artifacts/flows/pipeline.json"
    assert "Running stage 'copy'" in output_of(started(tmp_path, 1, "bash", "-c", write))
    again = output_of(started(tmp_path, 2, "bash", "-c", "cat copied artifacts/flows/pipeline.json && dvc repro"))
    assert again.startswith("1\ndone\n")
    assert "Running stage" not in again
    typed("git rev-parse --verify release; git branch --list release", origin)
    assert read_yaml(tmp_path / "state" / "dvc.lock")["stages"]["copy"]


@pytest.mark.slow
def test_a_failed_command_is_a_failed_run_that_keeps_what_is_done(origin: Path, tmp_path: Path) -> None:
    """The exit status is the command's; of other pods than the first of a job nothing is kept."""
    other = started(tmp_path, 1, "dvc", "repro", JOB_COMPLETION_INDEX="1")
    output_of(other)
    assert not (tmp_path / "state" / "dvc.lock").exists()
    failed = started(tmp_path, 2, "bash", "-c", "dvc repro && exit 3", JOB_COMPLETION_INDEX="0")
    failed.communicate(timeout=120)
    assert failed.returncode == 3
    assert (tmp_path / "state" / "dvc.lock").exists()


@pytest.mark.slow
def test_data_lies_in_a_bucket(origin: Path, tmp_path: Path) -> None:
    """Through a server that speaks S3's protocol: a run without a cache gets the bytes that another one pushed."""
    content = random.Random(0).randbytes(3_000_000)
    (origin / "raw").write_bytes(content)
    commit(origin)
    port = free_port()
    with s3_server(port) as address:
        bucket = {"DVC_REMOTE": "s3://hinet/dvc", "DVC_ENDPOINT": address, **S3_KEYS}
        output_of(started(tmp_path, 1, "dvc", "repro", **bucket))
        again = output_of(started(tmp_path, 2, "dvc", "repro", **bucket))
    assert "Running stage" not in again
    assert (tmp_path / "clone2" / "copied").read_bytes() == content
    assert not (tmp_path / "remote").exists()


@pytest.mark.slow
def test_a_signal_reaches_the_command(origin: Path, tmp_path: Path) -> None:
    """What ends a pod ends the command, which may end by itself; the run says that it was ended."""
    trap = "trap 'echo ended > artifacts/flows/ended; exit 1' TERM"
    code = f"{trap}; touch artifacts/flows/begun; while :; do sleep 0.1; done"
    process = started(tmp_path, 1, "bash", "-c", code)
    wait_until((tmp_path / "state" / "flows" / "begun").exists)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode
    assert (tmp_path / "state" / "flows" / "ended").read_text() == "ended\n"
