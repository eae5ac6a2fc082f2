"""The commands of the project, as the page lists them."""

import pytest

from common import exit_status
from common.paths import ROOT
from docs.generator.commands import INTERNAL, commands, sections, statuses, targets
from docs.generator.pipeline import declared

pytestmark = pytest.mark.unit


def test_every_module_that_is_run_is_a_command() -> None:
    """A module with a main block is listed, except those that only the project starts."""
    files = [path for path in ROOT.glob("[a-z]*/**/*.py") if '__name__ == "__main__"' in path.read_text()]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in files}
    ours = {name for name in names if name.split(".")[0] not in ("docs", "tests", "data", "artifacts")}
    assert {command.module for command in commands(ROOT)} == ours - set(INTERNAL)


def test_a_stage_is_listed_with_the_options_that_dvc_gives_it() -> None:
    """Each option of a `cmd` of dvc.yaml is one of its module."""
    options = {command.module: {option.name for option in command.options} for command in commands(ROOT)}
    for name, stage in declared(ROOT).items():
        words = stage["cmd"].split()
        module = words[words.index("-m") + 1]
        assert {word for word in words if word.startswith("--")} <= options[module], name


def test_every_group_has_its_commands() -> None:
    """Stages, other commands, flows and benchmarks are headings, each with a command below."""
    page = sections(ROOT)
    positions = [page.index(f"## {title}\n") for title in ("Stages", "Other commands", "Flows", "Benchmarks")]
    assert positions == sorted(positions)
    assert positions[2] < page.index("### flows.pipeline\n") < positions[3]


def test_every_exit_status_is_listed() -> None:
    """Each number of common/exit_status.py has a row."""
    held = [value for name, value in vars(exit_status).items() if name.isupper()]
    numbers = {number for value in held for number in (value.values() if isinstance(value, dict) else [value])}
    rows = [row.split("|")[2].strip() for row in statuses().splitlines()[2:]]
    assert {str(number) for number in numbers} == set(rows)


def test_every_documented_target_is_listed() -> None:
    """A target of the Makefile with a purpose has a row."""
    assert "| `make run` |" in targets(ROOT)
    assert "| `make test` |" in targets(ROOT)
