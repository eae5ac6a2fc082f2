"""The stages of dvc.yaml as tasks: those that DVC holds to be out of date run, and an artifact has the results."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow

from common.errors import ParameterError
from common.openmp import POLICY
from common.paths import ROOT
from flows.stages import attempt as attempts
from flows.stages.graph import read_graph, reasons
from flows.stages.run import StageResult, run_stages
from tests.support.flow_harness import newest_table, report_command, running, write_repository

pytestmark = pytest.mark.process

OWN_NAME = re.compile(r'@flow\(name="\w+", flow_run_name="\w+"')


def run(output: Path | None = None) -> dict[str, StageResult]:
    """Run the stages of the current folder (those that `output` needs) in a flow; their results by stage."""

    @flow
    async def build() -> list[StageResult]:
        return await run_stages(output=output)

    return {result.stage: result for result in asyncio.run(build())}


def states(results: dict[str, StageResult]) -> dict[str, str]:
    """The state of each stage."""
    return {name: result.state for name, result in results.items()}


def diamond(root: Path) -> None:
    """One log, two counts of it, and a page of both."""
    write_repository(
        root,
        page={"cmd": "cat words lines > page", "deps": ["words", "lines"], "outs": ["page"]},
        words={"cmd": "wc -w < log > words", "deps": ["log"], "outs": ["words"], "desc": "Counts words"},
        lines={"cmd": "wc -l < log > lines", "deps": ["log"], "outs": ["lines"], "meta": {"gpu": True}},
        log={
            "cmd": f"{report_command('a.log', megabytes=1234)}; cat raw > log",
            "deps": ["raw"],
            "outs": ["log"],
            "meta": {"retries": 2, "timeout_seconds": 60},
        },
    )
    (root / "raw").write_text("some words\n")


def test_the_graph_is_that_of_dvc(workspace: Path) -> None:
    """Names, edges, `desc` and `meta` come from dvc.yaml, each stage after those that it depends on."""
    diamond(workspace)
    log, lines, words, page = read_graph()
    assert (log.name, log.upstream, log.retries, log.timeout_seconds) == ("log", (), 2, 60)
    assert (lines.name, lines.upstream, lines.gpu) == ("lines", ("log",), True)
    assert (words.name, words.upstream, words.description) == ("words", ("log",), "Counts words")
    assert (page.name, page.upstream, page.timeout_seconds) == ("page", ("lines", "words"), None)


def test_the_graph_of_the_pipeline_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage of dvc.yaml, repeated ones by their full names; only a stage that may download is retried."""
    monkeypatch.chdir(ROOT)
    stages = {stage.name: stage for stage in read_graph()}
    assert next(iter(stages)) == "ingest"
    assert stages["train@hinet_plus"].gpu
    assert [name for name, stage in stages.items() if stage.retries] == ["ingest"]
    assert all(stage.timeout_seconds for stage in stages.values())


def test_an_unknown_key_of_meta_is_rejected(workspace: Path) -> None:
    """A typing error in `meta` would be a retry that never happens; the message has the known keys."""
    write_repository(workspace, log={"cmd": "true", "meta": {"retires": 3}})
    with pytest.raises(ParameterError, match=r"dvc.yaml: meta of log: expected some of .*, found retires"):
        read_graph()


def test_no_stage_is_named_in_the_flows() -> None:
    """dvc.yaml is the only graph; a flow may have the name of a stage."""
    names = {stage.split("@")[0] for stage in stage_names()}
    texts = {path.name: OWN_NAME.sub("", path.read_text()) for path in (ROOT / "flows").rglob("*.py")}
    quoted = {(name, file) for name in names for file, text in texts.items() if f'"{name}"' in text}
    assert not quoted


def stage_names() -> list[str]:
    """The stages of the pipeline as `dvc stage list` has them."""
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_out_of_date_stages_run_and_the_others_are_cached(server: None, workspace: Path) -> None:
    """All at first, then none, and after a change only those that DVC holds to be out of date: `words` is equal."""
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
    """Each of the two waits until the other one has begun; DVC's lock file has both afterwards."""
    meet = "touch {0}; for i in $(seq 200); do test -e {1} && echo met > out_{0} && exit 0; sleep 0.1; done; exit 1"
    write_repository(workspace, **{a: {"cmd": meet.format(a, b), "outs": [f"out_{a}"]} for a, b in ("xy", "yx")})
    assert states(run()) == {"x": "ran", "y": "ran"}
    assert reasons() == {}


def test_a_failure_starts_nothing_new(server: None, workspace: Path) -> None:
    """The cause is the error of its report; stages that depend on it are not reached, the others stay up to date."""
    diamond(workspace)
    run()
    (workspace / "raw").write_text("other\nwords\n")
    text = (workspace / "dvc.yaml").read_text()
    (workspace / "dvc.yaml").write_text(text.replace("wc -w < log", "sh gate"))
    (workspace / "gate").write_text(f"{report_command('a.words', error='the gate is closed')}; exit 1")
    results = run()
    assert states(results) | {"lines": ""} == {"log": "ran", "lines": "", "words": "failed", "page": "not reached"}
    assert results["words"].cause == "a.words stopped: the gate is closed"
    assert newest_table()["page"] == {
        "stage": "page",
        "state": "not reached",
        "seconds": None,
        "peak_memory": None,
        "why": None,
    }


def test_a_stage_is_retried_as_its_meta_says(server: None, workspace: Path) -> None:
    """Two retries: the third attempt succeeds."""
    flaky = "echo x >> attempts; test $(wc -l < attempts) -ge 3 && touch out"
    write_repository(workspace, log={"cmd": flaky, "outs": ["out"], "meta": {"retries": 2, "retry_seconds": 0.1}})
    assert states(run()) == {"log": "ran"}
    assert (workspace / "attempts").read_text() == "x\n" * 3


def test_a_timeout_leaves_no_process(server: None, workspace: Path) -> None:
    """The stage's own process ends with DVC, and DVC's locks are released: the next run goes on at once."""
    seconds = str(os.getpid() * 1000 + 999)
    command = f"test -e go || sleep {seconds}; touch out"
    write_repository(workspace, slow={"cmd": command, "outs": ["out"], "meta": {"timeout_seconds": 5}})
    result = run()["slow"]
    assert (result.state, result.cause) == ("failed", "slow: Task run exceeded timeout of 5.0 second(s)")
    assert not running(seconds)
    (workspace / "go").touch()
    assert states(run()) == {"slow": "ran"}


def test_a_stage_waits_for_another_dvc(server: None, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same stage runs by hand: DVC would fail at once; the flow waits, and the stage is up to date then."""
    monkeypatch.setattr(attempts, "BUSY_SECONDS", 0.3)
    write_repository(workspace, log={"cmd": "touch begun; sleep 3; touch out", "outs": ["out"]})
    hand = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "log"], stdout=subprocess.DEVNULL)
    while not (workspace / "begun").exists():
        assert hand.poll() is None
    result = run()["log"]
    assert hand.wait() == 0
    assert (result.state, result.why) == ("cached", "in use")


HEAVY = ("torch", "feast", "great_expectations", "pandas", "duckdb", "pyarrow", "scipy", "bentoml")


def test_the_process_of_a_flow_is_light() -> None:
    """All of flows/ at once: heavy libraries are imported in the processes of the stages."""
    paths = sorted((ROOT / "flows").rglob("[a-z]*.py"))
    flows = ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    script = f"import sys, {flows}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_stages_that_an_output_needs_run(server: None, workspace: Path) -> None:
    """The stage that makes it and those that it depends on; an output that no stage makes is rejected."""
    diamond(workspace)
    assert set(run(Path("words"))) == {"log", "words"}
    with pytest.raises(ParameterError, match="expected a stage that makes nothing, found none"):
        read_graph(Path("nothing"))


@pytest.mark.parametrize(
    ("chosen", "beside"), [(None, "PASSIVE"), pytest.param("active", "active", marks=pytest.mark.slow)]
)
def test_openmp_waits_passively_in_stages_that_run_beside_another(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, beside: str
) -> None:
    """Two that neither waits for the other share the cores; one that has them for itself is left as it is."""
    monkeypatch.delenv(POLICY, raising=False)
    if chosen:
        monkeypatch.setenv(POLICY, chosen)
    names = {"first": [], "left": ["first"], "right": ["first"], "last": ["left", "right"]}
    meeting = {  # a stage that was over before the other began had the cores for itself
        name: f"touch {name}.begun; for i in $(seq 300); do [ -e {other}.begun ] && break; sleep 0.1; done; "
        for name, other in (("left", "right"), ("right", "left"))
    }
    stages = {
        name: {
            "cmd": f"{meeting.get(name, '')}(printenv {POLICY} || echo unset) > {name}",
            "deps": [*deps, "raw"],
            "outs": [name],
        }
        for name, deps in names.items()
    }
    write_repository(workspace, **stages)
    (workspace / "raw").write_text("1")
    assert set(states(run()).values()) == {"ran"}
    waits = {name: (workspace / name).read_text().strip() for name in names}
    usual = chosen or "unset"
    assert waits == {"first": usual, "left": beside, "right": beside, "last": usual}
