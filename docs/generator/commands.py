"""The commands: Make targets, `python -m` modules with their options, exit statuses.

The modules are read as source text and not imported: importing them all would load torch, Feast, Great Expectations and
BentoML.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import exit_status
from docs.generator.arguments import Option, constants, parser_options, signature_options, text_of
from docs.generator.markdown import table
from docs.generator.pipeline import declared

PACKAGES = ("features", "models", "serving", "release", "monitoring", "flows", "benchmarks")
INTERNAL = ("flows.process.guard", "flows.stages.reproduce", "serving.shadow.worker")  # started by the project itself
RUNNERS = ("stage.run", "cyclopts.run")
GROUPS = {"flows": "Flows", "benchmarks": "Benchmarks"}
DRIFT = "`python -m monitoring.drift`"
TARGET = re.compile(r"^([a-z-]+):.*## (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A module that is run with `python -m`: its description, and its options in order."""

    module: str
    description: str
    options: tuple[Option, ...]


def sections(root: Path) -> str:
    """The commands of the project in the folder `root`, in groups, each with its options."""
    found = {command.module: command for command in commands(root)}
    stages = [stage["cmd"].split("python -m ")[1].split()[0] for stage in declared(root).values()]
    groups = {"Stages": stages, "Other commands": [], "Flows": [], "Benchmarks": []}
    for name in (name for name in found if name not in stages):
        groups[GROUPS.get(name.split(".")[0], "Other commands")].append(name)
    return "\n\n".join(_group(title, [found[name] for name in names]) for title, names in groups.items())


def targets(root: Path) -> str:
    """Name and purpose of each target of the Makefile."""
    found = TARGET.findall((root / "Makefile").read_text())
    return table(["target", "purpose"], ((f"`make {name}`", purpose) for name, purpose in found))


def statuses() -> str:
    """Command, exit status and meaning."""
    rows = [
        ("every command", exit_status.DONE, "done, or nothing to do"),
        (
            "every command",
            exit_status.FAILED,
            "stopped: a sentence says why and what to do next; or a fault of the program",
        ),
        ("every command", exit_status.USAGE, "the command line is wrong: nothing was done"),
        *((DRIFT, status, f"the verdict is {verdict}") for verdict, status in exit_status.VERDICTS.items()),
        (DRIFT, exit_status.NO_VERDICT, "no verdict: a sentence says why"),
        (DRIFT, exit_status.UNREADABLE, "no verdict: the window cannot be read, it is not of the schema of the model"),
        ("`python -m release.promote`", exit_status.REJECTED, "the promotion policy keeps the champion"),
        ("`python -m features.refresh`", exit_status.LOCKED, "the online store is locked or unreachable: run it later"),
        (
            "`python -m serving.collect`",
            exit_status.LOCKED,
            "another collector is at work, or the queue is out of reach: run it later",
        ),
    ]
    return table(["command", "status", "meaning"], ((command, str(status), text) for command, status, text in rows))


def commands(root: Path) -> Iterator[Command]:
    """Every module of the project that is run by a person, in order of its name."""
    paths = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    for path in paths:
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__main__")
        tree = ast.parse(path.read_text())
        if module not in INTERNAL and (main := _main_block(tree)):
            yield _command(module, tree, main, constants(root, tree))


def _main_block(tree: ast.Module) -> ast.If | None:
    return next((node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)), None)


def _command(module: str, tree: ast.Module, main: ast.If, names: dict[str, Any]) -> Command:
    """A command by the signature of the function that it runs, or by its argument parser."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for call in (node for node in ast.walk(main) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) in RUNNERS and isinstance(call.args[0], ast.Name):
            function = functions[call.args[0].id]
            description = text_of(ast.get_docstring(function) or "")
            return Command(module, description, tuple(signature_options(function, names)))
    return Command(module, ast.get_docstring(tree) or "", tuple(parser_options(tree, names)))


def _group(title: str, found: list[Command]) -> str:
    return "\n\n".join([f"## {title}", *(_section(command) for command in found)])


def _section(command: Command) -> str:
    rows = [(f"`{option.name}`", option.type, option.default, option.meaning) for option in command.options]
    width = 4 if any(option.meaning for option in command.options) else 3
    header = ["option", "type", "default", "meaning"][:width]
    options = table(header, (row[:width] for row in rows)) if rows else "No options."
    return f"### {command.module}\n\n{command.description}\n\n{options}"
