"""YAML files read as DVC reads them: YAML 1.2 by ruamel.yaml, so that a value is the same for both.

PyYAML has YAML 1.1: `1e-05`, which DVC writes for a small number, is text there, `0123` is 83, and `yes` is true.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, MappingNode, Node, SequenceNode
from ruamel.yaml.error import YAMLError

from common.errors import ParameterError

LONGEST_SHOWN = 80  # letters of a broken line that a message has


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file `path`; raises ParameterError that names file, line and rule."""
    plain = parse_yaml(read_utf8(path), str(path))
    if plain is None:
        raise ParameterError(f"{path} is empty: expected a mapping, `key: value` on each line")
    if not isinstance(plain, dict):
        raise ParameterError(f"{path}: expected a mapping, `key: value` on each line, found {type(plain).__name__}")
    return plain


def read_utf8(path: Path) -> str:
    """The text of a file that a person writes; raises ParameterError where there is none, or no UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ParameterError(f"{path.absolute()} does not exist: run from the folder of the project") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ParameterError(
            f"{path}, line {line}: expected UTF-8 text, found the byte {error.object[error.start]:#04x}"
        ) from None


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text; raises ParameterError, which calls it `name` and has line and rule."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ParameterError(f"{name}{_rule(error, text)}") from None
    except (ValueError, KeyError, RecursionError) as error:  # of a value that its tag does not allow, of deep nesting
        raise ParameterError(f"{name}: not YAML: {error}") from None


def dump_yaml(plain: Any) -> str:
    """Plain data as YAML 1.2, which `read_yaml` and DVC read as the same data."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel declares the type of None
    stream = io.StringIO()
    yaml.dump(plain, stream)
    return stream.getvalue()


def line_of(text: str, path: Sequence[int | str]) -> int:
    """The line, counted from 1, of the value at `path` in a YAML text; of its deepest part that is there."""
    node = YAML(typ="safe").compose(text)
    for key in path:
        if (inner := _child(node, key)) is None:
            break
        node = inner
    return int(node.start_mark.line) + 1


def _child(node: Node, key: int | str) -> Node | None:
    if isinstance(node, MappingNode):
        return next((value for name, value in node.value if name.value == str(key)), None)
    if isinstance(node, SequenceNode) and isinstance(key, int):
        return node.value[key] if key < len(node.value) else None
    return None


def _rule(error: YAMLError, text: str) -> str:
    """Line, broken rule and text of the line, as far as ruamel.yaml says them."""
    rule = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f": not YAML: {rule}"
    shown = [*text.split("\n"), ""][mark.line][:LONGEST_SHOWN]
    blanks = ": a tab, where YAML has blanks" if "\t" in shown else ""
    return f", line {mark.line + 1}: not YAML: {rule}{blanks}, in {shown!r}"
