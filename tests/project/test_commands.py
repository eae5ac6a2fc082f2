"""Every command of the project with a wrong command line and without its inputs: a sentence, and no traceback."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.exit_status import DONE, USAGE
from common.paths import ROOT
from tests.support import command_line
from tests.support.command_server import CommandServer, command_server

pytestmark = pytest.mark.process
COMMANDS = command_line.all_commands()
STAGES = {name: command for name, command in COMMANDS.items() if not name.startswith(("flows", "benchmarks"))}
LOCKS = {"lock", ".lock"}
# The simulation needs no input; an index of no report is empty; without events there is nothing to collect.
WITHOUT_INPUT = ("features.ingest", "monitoring.index", "serving.collect")


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    """Commands without the time of their imports."""
    with command_server() as started:
        yield started


def test_the_commands_are_those_of_the_project() -> None:
    """The list is derived from the source; every required option of a stage has a value in the table."""
    assert {"features.ingest", "models.train", "flows.monitor", "benchmarks.accuracy"} <= set(COMMANDS)
    assert all(command_line.values(command) is not None for command in STAGES.values())


@pytest.mark.parametrize("name", [*COMMANDS, "docs.generate"])
def test_an_unknown_option_is_wrong_usage(server: CommandServer, tmp_path: Path, name: str) -> None:
    """It is named, the status is that of wrong usage, and nothing is written."""
    end = server.run(name, ["--no-such-option"], folder=tmp_path)
    assert (end.status, end.has_traceback) == (USAGE, False), end.output
    assert "--no-such-option" in end.output or "required" in end.output or "requires" in end.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_value_of_another_type_is_wrong_usage(server: CommandServer, tmp_path: Path, name: str) -> None:
    """Text where a number or a date is expected ends the command before it does anything."""
    for arguments in command_line.wrong_values(COMMANDS[name]):
        end = server.run(name, arguments, folder=tmp_path)
        assert (end.status, end.has_traceback) == (USAGE, False), (arguments, end.output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(STAGES) - set(WITHOUT_INPUT)))
def test_a_missing_input_is_named(server: CommandServer, tmp_path: Path, name: str) -> None:
    """In a folder with params.yaml alone, the command says what does not exist, and leaves no output."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    end = server.run(name, command_line.line(command_line.values(STAGES[name])), folder=tmp_path)
    assert end.status not in (DONE, USAGE)
    assert not end.has_traceback, end.output
    assert "exist" in end.output or "found n" in end.output or "holds no" in end.output, end.output
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written - LOCKS == {"params.yaml"}


@pytest.mark.parametrize("name", ["features.ingest", "models.train", "monitoring.drift"])
def test_a_folder_without_params_yaml_is_named(server: CommandServer, tmp_path: Path, name: str) -> None:
    """Outside the project the command says so."""
    end = server.run(name, command_line.line(command_line.values(STAGES[name])), folder=tmp_path)
    assert end.status not in (DONE, USAGE)
    assert "params.yaml does not exist: run from the folder of the project" in end.output
    assert not end.has_traceback
