"""Command lines for every command of the project, derived from its options, and what can be wrong with their files."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from common.paths import ROOT
from docs.generator.commands import Command, commands

# A value for each option, in a project after the whole pipeline. What a command writes goes below `new`.
INPUTS = {
    "schema": "data/schema.json",
    "ingested": "data/validated",
    "validated": "data/validated",
    "events": "data/validated/events",
    "features": "data/features",
    "served": "data/feedback/served",
    "views": "data/features/views.json",
    "training": "data/training",
    "tensors": "data/tensors",
    "truth": "data/truth",
    "encoder": "artifacts/encoder.parquet",
    "reference": "artifacts/reference.json",
    "online": "artifacts/online.db",
    "model": "artifacts/models/hinet_plus",
    "models": "artifacts/models/hinet_plus",
    "frozen": "artifacts/models/hinet_plus",
    "current": "data/training/test.parquet",
    "log": "log",
    "days": "days",
    "bodies": "bodies.jsonl",
    "folder": "folder",
    "metrics": "reports/metrics.json",
}
OUTPUTS = {"out", "store", "quarantine", "report", "docs", "checkpoints", "plots-out", "predictions", "json"}
WORDS = {
    "day": "2026-01-09",
    "first-day": "2026-01-08",
    "last-day": "2026-01-09",
    "as-of": "2026-01-11T01:00",
    "url": "http://127.0.0.1:9/rank",
    "rate": "1",
    "seconds": "1",
    "name": "team",
}
OTHERWISE = {  # where a name means something else in one command
    ("features.ingest", "schema"): "new/schema.json",
    ("features.ingest", "truth"): "new/truth",
    ("features.encode", "encoder"): "new/encoder.parquet",
    ("features.materialize", "online"): "new/online.db",
    ("models.train", "model"): "hinet",
    ("monitoring.drift", "reference"): "artifacts/models/hinet_plus",
}
GARBAGE = b"\x93garbage{" * 20
WRONG = {"integer": "x", "number": "x", "date": "yesterday", "datetime": "yesterday", "Timestamp": "yesterday"}


def all_commands() -> dict[str, Command]:
    """Every command that a person runs, by its module."""
    return {command.module: command for command in commands(ROOT)}


def values(command: Command) -> dict[str, str]:
    """A value for each required option; an option that nobody has thought of is a KeyError: add it above."""
    names = [option.name.lstrip("-") for option in command.options if option.default == "required"]
    return {name: _value(command.module, name) for name in names}


def _value(module: str, name: str) -> str:
    if (module, name) in OTHERWISE:
        return OTHERWISE[module, name]
    return f"new/{name}" if name in OUTPUTS else (INPUTS | WORDS)[name]


def line(chosen: dict[str, str]) -> list[str]:
    """The command line of some options."""
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]


def wrong_values(command: Command) -> Iterator[list[str]]:
    """A command line for each type of option, with a value that it cannot take."""
    by_type = {option.type.split(",")[0]: option.name.lstrip("-") for option in command.options}
    for kind, wrong in WRONG.items():
        if kind in by_type:
            yield line(values(command) | {by_type[kind]: wrong})


def damage(path: Path, kind: str) -> None:
    """Do to a file, or to every file of a folder, what `kind` says."""
    if kind == "missing":
        _remove(path)
    elif kind == "a folder for a file, or a file for a folder":
        folder = path.is_dir()
        _remove(path)
        path.write_text("text") if folder else path.mkdir()
    else:
        for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
            whole = file.read_bytes()
            file.write_bytes({"empty": b"", "garbage": GARBAGE, "truncated": whole[: len(whole) // 2]}[kind])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
