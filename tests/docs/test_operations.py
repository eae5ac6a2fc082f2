"""docs/operations/index.md is true: every command in it exists and takes the options that it is given there."""

import contextlib
import os
import re
import runpy
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.process
TEXT = (ROOT / "docs" / "operations" / "index.md").read_text()
RUN = "5b9d3b3e-6d2e-4f7c-8d3f-0d5d5a2d6a11"  # for ID
FOREIGN = {"git", "tar", "docker", "echo", "export", "bentoml", "make"}  # not ours, or tested elsewhere


def commands() -> list[list[str]]:
    """The words of every command in the shell blocks, without comments and what is set before it."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
    parts = [part for line in blocks.splitlines() for part in line.split(" && ")]
    commands = [shlex.split(part, comments=True) for part in parts]
    return [[word for word in words if not re.match(r"[A-Z_]+=", word)] for words in commands if words]


def modules() -> dict[str, set[str]]:
    """The modules that are run, with the options that they are given."""
    options: dict[str, set[str]] = {}
    for words in commands():
        if words[0].endswith("python") and words[1] == "-m":
            options.setdefault(words[2], set()).update(word for word in words if word.startswith("--"))
    return options


def of(tool: str) -> list[list[str]]:
    """The commands of a tool."""
    return [words for words in commands() if words[0] == tool]


def test_every_command_is_one_that_is_tested_here() -> None:
    """A tool that appears in a block is known."""
    tools = {Path(words[0]).name for words in commands()}
    assert tools <= FOREIGN | {"python", "prefect", "dvc"}


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked", "ignore:.*found in sys.modules")
@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_takes_its_options(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m MODULE --help` names each option that the page gives it."""
    if not modules()[module]:
        pytest.skip("it has no options: it is run in test_unattended")
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    printed = capsys.readouterr().out
    assert all(option in printed for option in modules()[module])


@pytest.mark.parametrize("words", of("prefect"), ids=" ".join)
def test_prefect_takes_the_command(words: list[str]) -> None:
    """Its own parser finds subcommand, arguments and options; nothing is run."""
    from prefect.cli._app import _app

    given = [RUN if word == "ID" else word for word in words[1:] if word != "--no-prompt"]
    _app.parse_args(given, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("words", of("dvc"), ids=" ".join)
def test_dvc_takes_the_command(words: list[str]) -> None:
    """The same for DVC's."""
    from dvc.cli import parse_args

    parse_args(words[1:])


@pytest.mark.parametrize("name", ["artifacts/serving/online.db", "prefect.db"])
def test_a_copy_of_a_database_in_use_is_whole(name: str, tmp_path: Path) -> None:
    """The one-liners are run on a database that another connection holds open."""
    (line,) = [words for words in of("python") if words[1] == "-c" and name in words[2]]
    path = tmp_path / (name if "/" in name else f".prefect/{name}")
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path)) as held:
        held.execute("create table words (word)")
        held.execute("insert into words values ('here')")
        held.commit()
        done = subprocess.run(
            [sys.executable, *line[1:]], cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)}, check=False
        )
    assert done.returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / Path(name).name)) as copy:
        assert copy.execute("select word from words").fetchall() == [("here",)]


def test_the_compose_file_and_the_unit_are_named_as_they_are() -> None:
    """What a block starts from is there."""
    for path in re.findall(r"deploy/[\w.]+\.(?:yaml|service)", TEXT):
        assert (ROOT / path).exists()
