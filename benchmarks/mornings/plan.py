"""What the benchmark runs: its logs, and the ways to have a model each morning, as mornings.yaml has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from common.errors import ParameterError
from common.train_params import Train
from common.yaml_file import read_yaml

PLAN = Path(__file__).with_name("mornings.yaml")
FROM_NOTHING = "from nothing"  # the start that the others are compared with, and whose first model they begin in


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Log(_Section):
    """A log: number of the first day that a model scores, counted from 1, and changes of params.yaml."""

    first: int = Field(ge=4)  # one day to train on, one to choose the epoch by, and a second morning
    params: dict[str, Any]


class Start(_Section):
    """How there is a model each morning, and changes of params.train."""

    trains: Literal["from_nothing", "from_yesterday", "never"]
    train: dict[str, Any] = {}

    def settings(self, train: Train) -> Train:
        """params.train with the changes; raises ParameterError on a value that no parameter allows."""
        try:
            return Train.model_validate(train.model_dump() | self.train)
        except pydantic.ValidationError as error:
            raise ParameterError(f"{PLAN.name}, train {self.train}: {error}") from error


class _Plan(_Section):
    logs: dict[str, Log]
    starts: dict[str, Start]


def read_log(name: str) -> Log:
    """The log called `name`; raises ParameterError where there is none."""
    logs = _read().logs
    if name not in logs:
        raise ParameterError(f"--log {name}: expected one of {', '.join(logs)}; your own log is read with --run")
    return logs[name]


def read_starts(names: str) -> dict[str, Start]:
    """The starts with these names (commas between them, or all), `from nothing` first.

    Raises ParameterError on a name that the plan does not have.
    """
    starts = _read().starts
    wanted = list(starts) if names == "all" else [name.strip() for name in names.split(",")]
    if unknown := sorted(set(wanted) - set(starts)):
        raise ParameterError(f"--starts {', '.join(unknown)}: expected some of {', '.join(starts)}, or all")
    return {name: starts[name] for name in dict.fromkeys([FROM_NOTHING, *wanted])}


def merge(plain: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with nested changes."""
    changed = {
        key: merge(plain[key], value) if isinstance(value, Mapping) and isinstance(plain.get(key), Mapping) else value
        for key, value in changes.items()
    }
    return {**plain, **changed}


def _read() -> _Plan:
    return _Plan.model_validate(read_yaml(PLAN))
