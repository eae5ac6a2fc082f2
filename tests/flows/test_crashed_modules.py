"""A module that a flow runs crashes, is killed while it writes, or writes nothing: real processes, whole flows.

The run fails, its date is not done, the notification has the cause, and no report of an earlier run counts as its own.
"""

import asyncio
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.settings import PREFECT_API_URL

from common.exit_status import DONE
from common.paths import ROOT
from common.run_identity import VARIABLE, new_id
from flows.materialize import materialize
from flows.monitor import monitor
from flows.ops.notify import create_block
from flows.pipeline import pipeline
from flows.process.document import Document, previous
from flows.release import release
from flows.tasks import drift_report, online_store
from flows.tasks.promotion import Verdict
from tests.support.flow_documents import READERS, written
from tests.support.flow_harness import write_repository
from tests.support.notifications import webhook, write_params

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("server")]

DAY = datetime.date(2026, 1, 18)
TIME = datetime.datetime(2026, 1, 18, 2, tzinfo=datetime.UTC)
MODULE = """
import json, os, pathlib, signal, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
path = pathlib.Path(options.get("--verdict") or pathlib.Path(options["--out"]) / "{name}")
path.parent.mkdir(parents=True, exist_ok=True)
content = json.loads(pathlib.Path("content.json").read_text().replace("RUN", os.environ["{variable}"]))
text, how = json.dumps(content), pathlib.Path("how").read_text()
if how == "crash":
    raise KeyError("price")
if how == "killed":
    path.write_text(text[: len(text) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
if how == "crash after":
    path.write_text(text)
    raise KeyError("price")
if how in ("done", "hang"):
    path.write_text(text)
if how == "hang":
    time.sleep(600)
"""
CAUSES = {
    "crash": "KeyError: 'price'",
    "killed": "was killed (signal 9)",
    "crash after": "KeyError: 'price'",
    "nothing": "there is no such file",
}
# flow, its module, its document, where an older one lies, and the file of its date
FLOWS: dict[str, tuple[Callable[[], Any], str, type[Document], Path | None, str | None]] = {
    "monitor": (
        lambda: monitor(as_of=DAY, return_state=True),
        "monitoring.drift",
        drift_report.Report,
        drift_report.OUT / drift_report.REPORT,
        "monitor",
    ),
    "materialize": (
        lambda: materialize(as_of=TIME, return_state=True),
        "features.refresh",
        online_store.Summary,
        online_store.OUT / online_store.REPORT,
        None,
    ),
    "release": (lambda: release(as_of=DAY, return_state=True), "release.promote", Verdict, None, "release"),
    "pipeline": (lambda: pipeline(as_of=DAY, return_state=True), "release.promote", Verdict, None, "pipeline"),
}


def write_module(module: str, content: dict[str, Any], path: Path | None) -> None:
    """A module of that name in the current folder, in place of the project's, and the document that it writes."""
    package, _, name = module.partition(".")
    Path(package).mkdir()
    (Path(package) / "__init__.py").touch()
    script = MODULE.replace("{variable}", VARIABLE).replace("{name}", path.name if path else "")
    (Path(package) / f"{name}.py").write_text(script)
    Path("content.json").write_text(json.dumps(json.loads(written(content, "RUN"))))


@pytest.mark.parametrize("name", FLOWS)
def test_a_module_that_does_not_end_well_fails_the_flow(name: str, workspace: Path) -> None:
    """In each of the ways; then the same date runs again, and it is done once its own document is there."""
    run, module, kind, path, date = FLOWS[name]
    write_repository(workspace, stage={"cmd": "touch out", "outs": ["out"]})
    write_module(module, READERS[kind][DONE], path)
    done = workspace / "artifacts" / "flows" / f"{date}.json"
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        for how, cause in CAUSES.items():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(written(READERS[kind][DONE], new_id()))
            Path("how").write_text(how)
            state: State = asyncio.run(run())
            assert state.is_failed(), (how, state)
            assert cause in str(state.message).splitlines()[0], how
            assert posted[-1] == {"subject": f"{name}: failed", "body": state.message}
            assert not done.exists(), how
            assert path is None or (previous(path.parent) / path.name).exists()
        Path("how").write_text("done")
        last: State = asyncio.run(run())
    assert last.is_completed(), last
    assert done.exists() == (date is not None)


def test_a_flow_that_dies_leaves_its_date_open(workspace: Path) -> None:
    """`kill -9` of the flow after its module has written a verdict: the next run does not take it."""
    path, done = drift_report.OUT / drift_report.REPORT, workspace / "artifacts" / "flows" / "monitor.json"
    write_repository(workspace, stage={"cmd": "touch out", "outs": ["out"]})
    write_params(workspace, None)
    write_module("monitoring.drift", READERS[drift_report.Report][DONE], path)
    Path("how").write_text("hang")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    command = [sys.executable, "-m", "flows.monitor", "--as-of", str(DAY)]
    with Path("log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        last = time.monotonic() + 90
        while not (path.exists() and path.stat().st_size) and time.monotonic() < last and process.poll() is None:
            time.sleep(0.1)
        process.kill()
    assert path.exists(), Path("log").read_text()
    left = json.loads(path.read_text())["run"]["id"]
    assert not done.exists()
    Path("how").write_text("nothing")
    state: State = asyncio.run(monitor(as_of=DAY, return_state=True))
    assert state.is_failed()
    assert not done.exists()
    Path("how").write_text("done")
    state = asyncio.run(monitor(as_of=DAY, return_state=True))
    assert state.is_completed()
    assert json.loads(path.read_text())["run"]["id"] != left
    assert done.exists()
