"""What the record of DVC says of the outputs that lie in a folder, after runs that ended and runs that did not."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.dvc_lock import LOCK, Outdated, outdated_outputs
from common.yaml_file import dump_yaml
from tests.support.flow_harness import write_repository

STAGES: dict[str, Any] = {
    "first": {"cmd": "cat source > one.json", "deps": ["source"], "outs": ["one.json"]},
    "second": {
        "cmd": "grep -v crash one.json && cat one.json > two.json",
        "deps": ["one.json"],
        "outs": [{"two.json": {"cache": False}}],
    },
    "third": {"cmd": "cat two.json > three.json", "deps": ["two.json"], "outs": ["three.json"]},
    "other": {"cmd": "echo 1 > other.json", "outs": ["other.json"]},
}


def repro(*, source: str) -> int:
    """The exit status of `dvc repro` after the source has changed."""
    Path("source").write_text(source)
    command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    return subprocess.run(command, check=False, capture_output=True).returncode


@pytest.mark.process
def test_after_a_run_that_failed_later_outputs_are_of_an_earlier_run(workspace: Path) -> None:
    """Of a run that ended none is outdated; of a failed one its stage's and those behind it, with the first reason."""
    write_repository(workspace, **STAGES)
    assert outdated_outputs(workspace) == {}
    assert repro(source="[1]") == 0
    assert outdated_outputs(workspace) == {}
    assert repro(source="[2] # crash") != 0
    assert Path("three.json").read_text() == "[1]", "the output of a stage that was not reached stays as it was"
    reason = "one.json was made anew afterwards"
    assert outdated_outputs(workspace) == {
        "two.json": Outdated(reason=reason),
        "three.json": Outdated(reason=reason, upstream=True),
    }
    assert repro(source="[3]") == 0
    assert outdated_outputs(workspace) == {}


@pytest.mark.process
def test_what_is_missing_or_was_replaced_is_not_of_the_run(workspace: Path) -> None:
    """A stage that dies after DVC has removed its outputs; a report that something else has written over."""
    write_repository(workspace, **STAGES)
    assert repro(source="[1]") == 0
    Path("two.json").write_text("[7]")
    assert outdated_outputs(workspace)["three.json"] == Outdated(
        reason="two.json is not the recorded one", upstream=True
    )
    Path("one.json").unlink()
    assert {path: one.reason for path, one in outdated_outputs(workspace).items()} == dict.fromkeys(
        ("one.json", "two.json", "three.json"), "one.json is missing"
    )


@pytest.mark.unit
@pytest.mark.parametrize("text", [None, "", "stages", "stages: [1", "schema: '2.0'\n"])
def test_without_a_whole_record_nothing_is_said(text: str | None, tmp_path: Path) -> None:
    """Before the first run, and after a kill that cut the file off."""
    if text is not None:
        (tmp_path / LOCK).write_text(text)
    assert outdated_outputs(tmp_path) == {}


NAMES = st.sampled_from("abcde")


@pytest.mark.unit
@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=5))
def test_any_graph_ends(tmp_path_factory: pytest.TempPathFactory, graph: dict[str, list[str]]) -> None:
    """Also a damaged record whose stages depend on each other; outputs that do not exist are outdated, all of them."""
    stages = {
        name: {"deps": [{"path": dep, "md5": "1"} for dep in deps], "outs": [{"path": name, "md5": "1"}]}
        for name, deps in graph.items()
    }
    folder = tmp_path_factory.mktemp("record")
    (folder / LOCK).write_text(dump_yaml({"stages": stages}))
    assert set(outdated_outputs(folder)) == set(graph)
