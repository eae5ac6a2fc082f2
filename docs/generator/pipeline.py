"""The graph as DVC draws it, and what each stage of dvc.yaml reads and writes."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.yaml_file import read_yaml
from docs.generator.markdown import code, table

DATA = ("data/", "artifacts/", "reports/", "${")  # dependencies that start otherwise are code or settings


def declared(root: Path) -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name; of a repeated stage, what is repeated."""
    stages = read_yaml(root / "dvc.yaml")["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def graph(root: Path) -> str:
    """The graph of stages as a Mermaid flowchart, drawn by DVC."""
    command = [sys.executable, "-m", "dvc", "dag", "--mermaid"]
    return code(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout, "mermaid")


def stages(root: Path) -> str:
    """Name and description of every stage."""
    rows = ((f"[`{name}`](#{name})", described(stage)) for name, stage in declared(root).items())
    return table(["stage", "what it does"], rows)


def details(root: Path) -> str:
    """A section for each stage: command, inputs, code, parameters, outputs, limits."""
    return "\n\n".join(_details(name, stage) for name, stage in declared(root).items())


def described(stage: Mapping[str, Any]) -> str:
    """The description of a stage; a repeated stage says so in general."""
    return str(stage["desc"]).replace("${key}", "a model")


def _details(name: str, stage: Mapping[str, Any]) -> str:
    rows = [
        ("command", f"`{' '.join(stage['cmd'].split())}`"),
        ("reads", _listed(dep for dep in stage["deps"] if dep.startswith(DATA))),
        ("code", _listed(dep for dep in stage["deps"] if not dep.startswith(DATA))),
        ("parameters", _listed(stage.get("params", []))),
        ("writes", _listed(_outputs(stage))),
        ("limits", ", ".join(f"{key.replace('_', ' ')}: {held}" for key, held in stage.get("meta", {}).items())),
    ]
    body = table(["", ""], [row for row in rows if row[1]])
    return f"### {name}\n\n{described(stage)}\n\n{body}"


def _outputs(stage: Mapping[str, Any]) -> Iterator[str]:
    for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
        yield from [out] if isinstance(out, str) else out


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
