"""The graph of the current folder as DVC has it, and what DVC holds to be stale. Nothing is decided here."""

import contextlib
import dataclasses
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from common.errors import ParameterError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of dvc.yaml: its name, those it waits for, its `desc`, and its `meta`: hints for whoever runs it."""

    name: str
    after: tuple[str, ...]
    description: str
    retries: int = 0
    retry_seconds: float = 30.0
    timeout_seconds: float | None = None
    gpu: bool = False


HINTS = {field.name: field.type for field in dataclasses.fields(Stage)[3:]}


def read_graph(until: Path | None = None) -> list[Stage]:
    """The stages of the repository, each after those that it waits for; `until`: only what makes that output.

    Raises ParameterError for an unknown hint, and where no stage makes the output.
    """
    with contextlib.closing(_opened()) as repo:
        graph = repo.index.graph
        run = {node: node.addressing for node in graph.nodes if node.cmd}  # the rest are data under `dvc add`
        after = {node: sorted(run[n] for n in graph.successors(node) if n in run) for node in run}
        stages = {run[node]: _stage(node, tuple(names)) for node, names in after.items()}
        makers = {run[node] for node in run if until and until.absolute() in [Path(out.fs_path) for out in node.outs]}
    if until and not makers:
        raise ParameterError(f"dvc.yaml: expected a stage that makes {until}, found none")
    names = {name: stages[name].after for name in sorted(stages)}
    ordered = [stages[name] for name in graphlib.TopologicalSorter(names).static_order()]
    return _needed(ordered, makers) if until else ordered


def _needed(ordered: list[Stage], wanted: set[str]) -> list[Stage]:
    """The `wanted` ones and all that they wait for."""
    for stage in reversed(ordered):
        if stage.name in wanted:
            wanted = wanted.union(stage.after)
    return [stage for stage in ordered if stage.name in wanted]


def _stage(node: Any, after: tuple[str, ...]) -> Stage:
    hints = node.meta or {}
    if unknown := sorted(set(hints) - set(HINTS)):
        raise ParameterError(
            f"dvc.yaml: meta of {node.addressing}: expected some of {', '.join(HINTS)}, found {', '.join(unknown)}"
        )
    return Stage(name=node.addressing, after=after, description=node.desc or "", **hints)


def reasons(names: list[str] | None = None) -> dict[str, str]:
    """Why DVC would run each of the stages `names` (all of them: None); one that is up to date is not in it.

    Waits while another DVC hashes; where another one is writing, "in use" stands for all of them.
    """
    with contextlib.closing(_opened()) as repo:
        try:
            found = repo.status(targets=names)
            return {name: ", ".join(_flatten(entries)) for name, entries in found.items()}
        except LockError:
            return dict.fromkeys(names or [node.addressing for node in repo.index.graph.nodes], "in use")


def _opened() -> Repo:
    try:
        return Repo(_wait_for_lock=True)
    except DvcException as error:
        raise ParameterError(f"expected to be in a DVC repository, found {error}") from error


def _flatten(entry: Any, prefix: str = "") -> Iterator[str]:
    """DVC's nested status as plain text: `changed deps: {params.yaml: {a.b: modified}}` -> "a.b modified"."""
    if isinstance(entry, str):
        yield f"{prefix} {entry}".strip()
    elif isinstance(entry, list):
        for one in entry:
            yield from _flatten(one)
    else:
        for key, one in entry.items():
            yield from _flatten(one, "" if key.startswith("changed ") else key)
