"""The stages of dvc.yaml as tasks: what DVC says is what runs, and what became of it can be read back."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow

from common.errors import ParameterError
from common.paths import ROOT
from flows.stages import run as stages
from flows.stages.graph import read_graph, reasons
from flows.stages.run import Outcome, cause, run_stages
from tests.support.flow_harness import newest_table, running, write_repository

OWN_NAME = re.compile(r'@flow\(name="\w+", flow_run_name="\w+"')


def run() -> dict[str, Outcome]:
    """Every stage of the current folder, in a flow of its own; the outcomes by stage."""

    @flow
    async def build() -> list[Outcome]:
        return await run_stages()

    return {outcome.stage: outcome for outcome in asyncio.run(build())}


def states(outcomes: dict[str, Outcome]) -> dict[str, str]:
    """What became of each stage."""
    return {name: outcome.state for name, outcome in outcomes.items()}


def diamond(root: Path) -> None:
    """One log, two counts of it, and a page of both."""
    write_repository(
        root,
        page={"cmd": "cat words lines > page", "deps": ["words", "lines"], "outs": ["page"]},
        words={"cmd": "wc -w < log > words", "deps": ["log"], "outs": ["words"], "desc": "Counts words"},
        lines={"cmd": "wc -l < log > lines", "deps": ["log"], "outs": ["lines"], "meta": {"gpu": True}},
        log={
            "cmd": "echo 'a.log: 1.5 s, peak memory 1,234 MB'; cat raw > log",
            "deps": ["raw"],
            "outs": ["log"],
            "meta": {"retries": 2, "timeout_seconds": 60},
        },
    )
    (root / "raw").write_text("some words\n")


def test_the_graph_is_that_of_dvc(workspace: Path) -> None:
    """Names, edges, `desc` and `meta` come from dvc.yaml, each stage after those that it waits for."""
    diamond(workspace)
    log, lines, words, page = read_graph()
    assert (log.name, log.after, log.retries, log.timeout_seconds) == ("log", (), 2, 60)
    assert (lines.name, lines.after, lines.gpu) == ("lines", ("log",), True)
    assert (words.name, words.after, words.description) == ("words", ("log",), "Counts words")
    assert (page.name, page.after, page.timeout_seconds) == ("page", ("lines", "words"), None)


def test_the_graph_of_the_pipeline_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage of dvc.yaml, repeated ones by their full names; only what asks the outside world is tried again."""
    monkeypatch.chdir(ROOT)
    found = {stage.name: stage for stage in read_graph()}
    assert next(iter(found)) == "ingest"
    assert found["train@hinet"].gpu
    assert [name for name, stage in found.items() if stage.retries] == ["ingest"]
    assert all(stage.timeout_seconds for stage in found.values())


def test_an_unknown_hint_is_named(workspace: Path) -> None:
    """A slip in `meta` would be a retry that never happens."""
    write_repository(workspace, log={"cmd": "true", "meta": {"retires": 3}})
    with pytest.raises(ParameterError, match=r"dvc.yaml: meta of log: expected some of .*, found retires"):
        read_graph()


def test_no_stage_is_named_in_the_flows() -> None:
    """dvc.yaml is the only graph; a flow may be called as a stage is."""
    names = {stage.split("@")[0] for stage in subprocess_names()}
    texts = {path.name: OWN_NAME.sub("", path.read_text()) for path in (ROOT / "flows").glob("*.py")}
    quoted = {(name, file) for name in names for file, text in texts.items() if f'"{name}"' in text}
    assert not quoted


def subprocess_names() -> list[str]:
    """The stages of the pipeline as `dvc stage list` has them."""
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_stale_stages_run_and_the_others_are_cached(server: None, workspace: Path) -> None:
    """All at first, none again, and after a change only what DVC holds to be stale: there are as many words."""
    diamond(workspace)
    first = run()
    assert states(first) == dict.fromkeys(["log", "lines", "words", "page"], "ran")
    assert first["log"].peak_memory == "1,234 MB"
    assert newest_table()["words"]["why"] == "log modified, words deleted"
    assert set(states(run()).values()) == {"cached"}
    (workspace / "raw").write_text("more words\n")
    assert states(run()) == {"log": "ran", "lines": "ran", "words": "ran", "page": "cached"}
    (workspace / "words").unlink()
    assert states(run()) == {"log": "cached", "lines": "cached", "words": "restored", "page": "cached"}
    row = newest_table()["words"]
    assert (row["state"], row["why"]) == ("restored", "words deleted")
    assert row["seconds"] > 0


def test_independent_stages_run_at_once(server: None, workspace: Path) -> None:
    """Each of the two waits for the other one to have begun; DVC's lock file has both afterwards."""
    meet = "touch {0}; for i in $(seq 200); do test -e {1} && echo met > out_{0} && exit 0; sleep 0.1; done; exit 1"
    write_repository(workspace, **{a: {"cmd": meet.format(a, b), "outs": [f"out_{a}"]} for a, b in ("xy", "yx")})
    assert states(run()) == {"x": "ran", "y": "ran"}
    assert reasons() == {}


def test_a_failure_starts_nothing_new(server: None, workspace: Path) -> None:
    """The cause is the stage's own sentence; what hangs on it is not reached, what was up to date stays so."""
    diamond(workspace)
    run()
    (workspace / "raw").write_text("other\nwords\n")
    text = (workspace / "dvc.yaml").read_text()
    (workspace / "dvc.yaml").write_text(text.replace("wc -w < log", "sh gate"))
    (workspace / "gate").write_text("echo 'a.words stopped: the gate is closed' >&2; exit 1")
    outcomes = run()
    assert states(outcomes) | {"lines": ""} == {"log": "ran", "lines": "", "words": "failed", "page": "not reached"}
    assert outcomes["words"].cause == "a.words stopped: the gate is closed"
    assert newest_table()["page"] == {
        "stage": "page",
        "state": "not reached",
        "seconds": None,
        "peak_memory": None,
        "why": None,
    }


def test_a_stage_is_tried_again_as_its_meta_says(server: None, workspace: Path) -> None:
    """The third attempt finds what the first two missed."""
    flaky = "echo x >> attempts; test $(wc -l < attempts) -ge 3 && touch out"
    write_repository(workspace, log={"cmd": flaky, "outs": ["out"], "meta": {"retries": 2, "retry_seconds": 0.1}})
    assert states(run()) == {"log": "ran"}
    assert (workspace / "attempts").read_text() == "x\n" * 3


def test_a_timeout_leaves_no_process(server: None, workspace: Path) -> None:
    """The stage's own process ends with DVC, and DVC's locks are given back: the next run goes on at once."""
    seconds = str(os.getpid() * 1000 + 999)
    command = f"test -e go || sleep {seconds}; touch out"
    write_repository(workspace, slow={"cmd": command, "outs": ["out"], "meta": {"timeout_seconds": 5}})
    outcome = run()["slow"]
    assert (outcome.state, outcome.cause) == ("failed", "slow: Task run exceeded timeout of 5.0 second(s)")
    assert not running(seconds)
    (workspace / "go").touch()
    assert states(run()) == {"slow": "ran"}


def test_a_stage_waits_for_another_dvc(server: None, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody runs the same stage by hand: DVC would fail at once; the flow waits, and finds it done."""
    monkeypatch.setattr(stages, "BUSY_SECONDS", 0.3)
    write_repository(workspace, log={"cmd": "touch begun; sleep 3; touch out", "outs": ["out"]})
    hand = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "log"], stdout=subprocess.DEVNULL)
    while not (workspace / "begun").exists():
        assert hand.poll() is None
    outcome = run()["log"]
    assert hand.wait() == 0
    assert (outcome.state, outcome.why) == ("cached", "in use")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a", "x.y stopped: no archive", "ERROR: failed to reproduce 'y': exited with 1"], "x.y stopped: no archive"),
        (["Traceback", "KeyError: 'a'", "ERROR: failed to reproduce 'y': exited with 1"], "KeyError: 'a'"),
        (["epoch 3", "ERROR: failed to reproduce 'y': failed to run: x, exited with -9"], "y was killed (signal 9)"),
        (["ERROR: failed to reproduce 'y': missing data"], "ERROR: failed to reproduce 'y': missing data"),
        ([], "y failed without a word"),
    ],
)
def test_the_cause_is_one_line(lines: list[str], expected: str) -> None:
    """The stage's own sentence, else that it was killed, else the last thing said before DVC's verdict."""
    assert cause("y", lines).startswith(expected)


HEAVY = ("torch", "feast", "great_expectations", "pandas", "duckdb", "pyarrow", "scipy", "bentoml")


def test_the_process_of_a_flow_is_light() -> None:
    """All of flows/ at once: what is heavy runs in the processes of the stages."""
    flows = ", ".join(f"flows.{path.stem}" for path in sorted((ROOT / "flows").glob("*.py")))
    script = f"import sys, {flows}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_what_makes_an_output_is_run(server: None, workspace: Path) -> None:
    """The stage that makes it and what it waits for; an output that nobody makes is told."""
    diamond(workspace)
    found = asyncio.run(run_stages_until(Path("words")))
    assert set(found) == {"log", "words"}
    with pytest.raises(ParameterError, match="expected a stage that makes nothing, found none"):
        read_graph(Path("nothing"))


async def run_stages_until(output: Path) -> dict[str, str]:
    """What became of the stages up to an output."""

    @flow
    async def runs() -> list[Outcome]:
        return await run_stages(until=output)

    return {outcome.stage: outcome.state for outcome in await runs()}
