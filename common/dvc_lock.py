"""What dvc.lock, the record of the runs of DVC, says of the outputs that lie here: whether they are of one run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ParameterError
from common.files import md5_of
from common.yaml_file import read_yaml

LOCK = Path("dvc.lock")


@dataclass(frozen=True, kw_only=True)
class Outdated:
    """Why an output is not of the last run; `upstream`: because of a stage before its own."""

    reason: str
    upstream: bool = False


def outdated_outputs(root: Path) -> dict[str, Outdated]:
    """The recorded outputs under `root` that are not of the last run, by their paths.

    A stage is outdated where it was not run with what the stage before it has made, where an output of its own is
    missing or was replaced, and where a stage before it is outdated: it failed, or was not reached. Empty without a
    record; what changed in parameters, code and raw log is DVC's to say (`dvc status`).
    """
    try:
        stages: dict[str, Any] = read_yaml(root / LOCK)["stages"]
    except (ParameterError, KeyError):
        return {}
    made = {out["path"]: (name, out.get("md5")) for name, stage in stages.items() for out in stage.get("outs", [])}
    before = {name: _upstream(stage, made) for name, stage in stages.items()}
    faults: dict[str, Outdated] = {}
    for name in _in_order(before):
        if first := next((faults[upstream] for upstream in before[name] if upstream in faults), None):
            faults[name] = Outdated(reason=first.reason, upstream=True)
        elif reason := _fault(stages[name], made, root):
            faults[name] = Outdated(reason=reason)
    return {path: faults[name] for path, (name, _) in made.items() if name in faults}


def _upstream(stage: dict[str, Any], made: dict[str, tuple[str, str | None]]) -> list[str]:
    return [made[dep["path"]][0] for dep in stage.get("deps", []) if dep["path"] in made]


def _fault(stage: dict[str, Any], made: dict[str, tuple[str, str | None]], root: Path) -> str | None:
    """Why a stage is outdated by itself; None where it is not."""
    for dep in stage.get("deps", []):
        if dep["path"] in made and made[dep["path"]][1] != dep.get("md5"):
            return f"{dep['path']} was made anew afterwards"
    for out in stage.get("outs", []):
        path = root / out["path"]
        if not path.exists():
            return f"{out['path']} is missing"
        if path.is_file() and path.suffix == ".json" and md5_of(path) != out.get("md5"):
            return f"{out['path']} is not the recorded one"
    return None


def _in_order(before: dict[str, list[str]]) -> Iterator[str]:
    """The stages, each after those before it."""
    done: set[str] = set()
    while left := [name for name in before if name not in done]:
        ready = [name for name in left if done.issuperset(before[name])] or left  # or: of a damaged record
        yield from ready
        done.update(ready)
