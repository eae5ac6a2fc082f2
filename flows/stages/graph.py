"""The stages of dvc.yaml in the current folder, and which of them DVC holds to be out of date."""

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
    """A stage of dvc.yaml: its name, the stages that it depends on, its `desc`, and its `meta`: options of its task."""

    name: str
    upstream: tuple[str, ...]
    description: str
    retries: int = 0
    retry_seconds: float = 30.0
    timeout_seconds: float | None = None
    gpu: bool = False


TASK_OPTIONS = {field.name: field.type for field in dataclasses.fields(Stage)[3:]}


def read_graph(output: Path | None = None) -> list[Stage]:
    """The stages of the repository, each after those that it depends on; `output`: only those that this output needs.

    Raises ParameterError for an unknown key of `meta`, and where no stage makes the output.
    """
    with contextlib.closing(_open_repository()) as repo:
        graph = repo.index.graph
        names = {node: node.addressing for node in graph.nodes if node.cmd}  # the rest are data under `dvc add`
        upstream = {node: sorted(names[n] for n in graph.successors(node) if n in names) for node in names}
        stages = {names[node]: _stage(node, tuple(before)) for node, before in upstream.items()}
        makers = {
            names[node] for node in names if output and output.absolute() in [Path(out.fs_path) for out in node.outs]
        }
    if output and not makers:
        raise ParameterError(f"dvc.yaml: expected a stage that makes {output}, found none")
    sorter = graphlib.TopologicalSorter({name: stages[name].upstream for name in sorted(stages)})
    ordered = [stages[name] for name in sorter.static_order()]
    return _needed(ordered, makers) if output else ordered


def _needed(ordered: list[Stage], targets: set[str]) -> list[Stage]:
    """The `targets` and all stages that they depend on."""
    for stage in reversed(ordered):
        if stage.name in targets:
            targets = targets.union(stage.upstream)
    return [stage for stage in ordered if stage.name in targets]


def _stage(node: Any, upstream: tuple[str, ...]) -> Stage:
    options = node.meta or {}
    if unknown := sorted(set(options) - set(TASK_OPTIONS)):
        raise ParameterError(
            f"dvc.yaml: meta of {node.addressing}: expected some of {', '.join(TASK_OPTIONS)}, "
            f"found {', '.join(unknown)}"
        )
    return Stage(name=node.addressing, upstream=upstream, description=node.desc or "", **options)


def reasons(names: list[str] | None = None) -> dict[str, str]:
    """Why DVC would run each of the stages `names` (None: all of them); a stage that is up to date is not in it.

    Waits while another DVC process hashes; while one writes, "in use" is the reason of every stage.
    """
    with contextlib.closing(_open_repository()) as repo:
        try:
            status = repo.status(targets=names)
            return {name: ", ".join(_flatten(entries)) for name, entries in status.items()}
        except LockError:
            return dict.fromkeys(names or [node.addressing for node in repo.index.graph.nodes], "in use")


def _open_repository() -> Repo:
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
