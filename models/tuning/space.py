"""The space of a search: search.yaml, which names parameters of params.yaml and the values that are tried."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import optuna
import pydantic
from pydantic import Field

from common.errors import ParameterError
from common.params_section import Section
from common.yaml_file import line_of, read_utf8, read_yaml
from models.model_folder import NETWORKS
from models.tuning.parameters import Values, settings_of, value_of

DIGITS = 3  # significant ones of a number that is tried: params.yaml stays readable
KEPT = {  # parameters that change no metric of the validation rows, or that a search sets by itself
    "train.seed",
    "train.device",
    "train.processes",
    "train.checkpoint_seconds",
    "train.calibration",
    "train.warm_start",
    "train.warm_start_columns",
    "train.warm_epochs",
    "train.warm_window_days",
    "train.embedding_precision",
    "train.final_learning_rate",
}


class _Range(Section):
    """Numbers from low to high, both included; `log`: their logarithms are drawn evenly."""

    low: float
    high: float
    log: bool = False

    @pydantic.model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, found {self.low}")
        return self


class FloatRange(_Range):
    """Numbers of a range, rounded to DIGITS digits."""

    def probes(self) -> Iterable[Any]:
        """Values that params.yaml must allow."""
        return self.low, self.high

    def suggest(self, trial: optuna.Trial, name: str) -> float:
        """The value of the parameter `name` in this trial."""
        drawn = trial.suggest_float(name, self.low, self.high, log=self.log)
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)

    def stored(self, value: Any) -> float | None:
        """The value as Optuna stores it; None where it is not in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number and self.low <= value <= self.high else None


class IntRange(_Range):
    """Whole numbers low, low + step, ... of a range."""

    low: int
    high: int
    step: Annotated[int, Field(gt=0)] = 1

    @pydantic.model_validator(mode="after")
    def _check_step(self) -> Self:
        if self.log and self.step != 1:
            raise ValueError("expected step or log, not both")
        return self

    def probes(self) -> Iterable[Any]:
        """Values that params.yaml must allow."""
        return self.low, self.high

    def suggest(self, trial: optuna.Trial, name: str) -> int:
        """The value of the parameter `name` in this trial."""
        high = self.high - (self.high - self.low) % self.step
        drawn: int = trial.suggest_int(name, self.low, high, step=self.step, log=self.log)
        return drawn

    def stored(self, value: Any) -> int | None:
        """The value as Optuna stores it; None where it is not in the range."""
        number = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return value if number and (value - self.low) % self.step == 0 else None


@dataclass(frozen=True)
class Choice:
    """Values of any kind. Optuna has categories of scalars: a list is stored as the text of its JSON."""

    values: tuple[Any, ...]

    def probes(self) -> Iterable[Any]:
        """Values that params.yaml must allow."""
        return self.values

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """The value of the parameter `name` in this trial."""
        by_category = {_category(value): value for value in self.values}
        return by_category[trial.suggest_categorical(name, list(by_category))]

    def stored(self, value: Any) -> Any:
        """The value as Optuna stores it; None where it is no choice."""
        return _category(value) if value in self.values else None


def _category(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) or value is None else value


class Declaration(Section):
    """The values of one parameter: a range of numbers, or choices."""

    float_range: FloatRange | None = Field(default=None, alias="float")
    int_range: IntRange | None = Field(default=None, alias="int")
    choice: Annotated[list[Any], Field(min_length=2)] | None = None

    @pydantic.model_validator(mode="after")
    def _check_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("expected one of float: {low, high, log}, int: {low, high, step, log} and choice: [...]")
        if self.choice and len({_category(value) for value in self.choice}) < len(self.choice):
            raise ValueError("a choice stands there twice")
        return self

    @property
    def domain(self) -> FloatRange | IntRange | Choice:
        """The values."""
        return self.float_range or self.int_range or Choice(tuple(self.choice or ()))


_SPACE = pydantic.TypeAdapter(dict[str, Declaration])


@dataclass(frozen=True)
class Space:
    """The parameters of a search for one network, by dotted name."""

    domains: Mapping[str, FloatRange | IntRange | Choice]
    digest: str  # SHA-256 of the declaration

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values of this trial."""
        return {name: domain.suggest(trial, name) for name, domain in self.domains.items()}

    def current(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """The values in params.yaml."""
        return {name: value_of(plain, name) for name in self.domains}

    def stored(self, values: Values) -> dict[str, Any] | None:
        """The values as Optuna stores them; None where one of them is not in the space."""
        stored = {name: domain.stored(values[name]) for name, domain in self.domains.items()}
        return None if None in stored.values() else stored


def read_space(path: Path, plain: Mapping[str, Any], model: str) -> Space:
    """The space in `path` for the network `model`; raises ParameterError that names the fault.

    Args:
        path: search.yaml.
        plain: params.yaml.
        model: a name in models.model_folder.NETWORKS; the parameters of other networks are left out.
    """
    declared = read_yaml(path)
    try:
        declarations = _SPACE.validate_python(declared)
    except pydantic.ValidationError as error:
        text = read_utf8(path)
        faults = [f"  {_fault(text, fault)}" for fault in error.errors(include_url=False)]
        raise ParameterError("\n".join([f"{path} has wrong values:", *faults])) from None
    domains = {name: declaration.domain for name, declaration in declarations.items()}
    for name, domain in domains.items():
        _check(path, plain, name, domain)
    used = {name: domain for name, domain in domains.items() if network_of(name) in (None, model)}
    if not used:
        raise ParameterError(f"{path} has no parameter for {model}: expected one of train, or of train.{model}")
    text = json.dumps({name: declared[name] for name in sorted(used)}, sort_keys=True)
    return Space(used, hashlib.sha256(text.encode()).hexdigest())


def network_of(name: str) -> str | None:
    """The network whose section the parameter stands in; None where all networks have it."""
    section = name.split(".")[1]
    return section if section in NETWORKS else None


def _check(path: Path, plain: Mapping[str, Any], name: str, domain: FloatRange | IntRange | Choice) -> None:
    """Raise ParameterError where params.yaml has no such parameter, or does not allow one of its values."""
    if not name.startswith("train.") or name in KEPT:
        kept = ", ".join(sorted(KEPT))
        raise ParameterError(f"{path}: {name} cannot be searched: expected a parameter of train, but for {kept}")
    try:
        if isinstance(value_of(plain, name), Mapping):
            raise ParameterError(f"{name} is a section: expected a parameter, such as {name}.{_first(plain, name)}")
        for value in domain.probes():
            settings_of(plain, {name: value})
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None


def _first(plain: Mapping[str, Any], name: str) -> str:
    return next(iter(value_of(plain, name)), "NAME")


def _fault(text: str, fault: Any) -> str:
    """Line, dotted name and rule of a fault."""
    return f"line {line_of(text, fault['loc'])}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
