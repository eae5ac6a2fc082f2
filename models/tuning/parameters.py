"""Values of parameters by their dotted name in params.yaml, such as train.hinet.expert_units."""

import copy
import io
from collections.abc import Mapping
from typing import Any

import pydantic
from ruamel.yaml import YAML

from common.errors import ParameterError
from common.train_params import Train

Values = Mapping[str, Any]  # by dotted name


def value_of(plain: Mapping[str, Any], name: str) -> Any:
    """The value of the parameter `name`; raises ParameterError that has the names beside the one that is missing."""
    value: Any = plain
    done: list[str] = []
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            where = ".".join(done) or "params.yaml"
            names = ", ".join(value) if isinstance(value, Mapping) else "nothing below it"
            raise ParameterError(f"{name} is not in params.yaml: {where} has {names}")
        done.append(part)
        value = value[part]
    return value


def with_values(plain: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """The parameters `plain` with other values; `plain` stays as it is."""
    changed = copy.deepcopy(dict(plain))
    _set(changed, values)
    return changed


def settings_of(plain: Mapping[str, Any], values: Values) -> Train:
    """params.train with these values; raises ParameterError where a value, or their combination, is not allowed."""
    try:
        return Train.model_validate(with_values(plain, values)["train"])
    except pydantic.ValidationError as error:
        faults = (
            f"{'.'.join(map(str, ('train', *fault['loc'])))}: {fault['msg']}, found {fault['input']!r}"
            for fault in error.errors(include_url=False)
        )
        raise ParameterError("; ".join(faults)) from None


def with_values_in_text(text: str, values: Values) -> str:
    """The text of params.yaml with other values: only their lines differ, as after `dvc exp run --set-param`."""
    yaml = YAML()  # as dvc.utils.serialize writes: comments and order stay
    yaml.default_flow_style = False
    document = yaml.load(text)
    _set(document, {name: value for name, value in values.items() if value_of(document, name) != value})
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _set(document: Any, values: Values) -> None:
    for name, value in values.items():
        *sections, key = name.split(".")
        section = document
        for part in sections:
            section = section[part]
        section[key] = copy.deepcopy(value)
