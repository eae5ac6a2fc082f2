"""The options of a command, read from its source text: a function's signature or the calls of an argument parser."""

import ast
import datetime
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import griffe

from common import paths
from docs.generator.markdown import value

REQUIRED = "required"
WORDS = {"Path": "path", "str": "text", "int": "integer", "float": "number", "bool": "flag"}


@dataclass(frozen=True)
class Option:
    """An option as it is typed, the type of its value, its default and its meaning."""

    name: str
    type: str
    default: str
    meaning: str


def constants(root: Path, tree: ast.Module) -> dict[str, Any]:
    """The plain constants of a module, and those that it imports from other modules of the project."""
    names: dict[str, Any] = {"Path": Path, "datetime": datetime, **vars(paths)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(one.name.isupper() for one in node.names):
            found = _constants_of(root, f"{(node.module or '').replace('.', '/')}.py")
            names |= {one.asname or one.name: found[one.name] for one in node.names if one.name in found}
        elif isinstance(node, ast.Assign):
            _assign(node, names)
    return names


@functools.cache
def _constants_of(root: Path, name: str) -> Mapping[str, Any]:
    file = root / name
    return constants(root, ast.parse(file.read_text())) if file.is_file() else {}


def _assign(node: ast.Assign, names: dict[str, Any]) -> None:
    held = evaluate(node.value, names)
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(held, tuple):
            names |= {ast.unparse(one): each for one, each in zip(target.elts, held, strict=True)}
        elif held is not None:
            names[ast.unparse(target)] = held


def evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of an expression of constants; None where it needs more than `names`."""
    try:
        return eval(compile(ast.Expression(node), "<constant>", "eval"), {"__builtins__": {}}, names)
    except Exception:
        return None


def signature_options(function: ast.FunctionDef, names: dict[str, Any]) -> Iterator[Option]:
    """An option for each keyword of the function; its meaning stands in the `Args:` section, where there is one."""
    meanings = _meanings(ast.get_docstring(function) or "")
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        kind = _kind(ast.unparse(argument.annotation) if argument.annotation else "str")
        shown = REQUIRED if default is None else "" if kind == "flag" else _shown(default, names)
        yield Option(f"--{argument.arg.replace('_', '-')}", kind, shown, meanings.get(argument.arg, ""))


def text_of(docstring: str) -> str:
    """A docstring without its `Args:` section."""
    sections = griffe.parse_google(griffe.Docstring(docstring), warnings=False)
    return "\n\n".join(section.value for section in sections if section.kind is griffe.DocstringSectionKind.text)


def _meanings(docstring: str) -> dict[str, str]:
    sections = griffe.parse_google(griffe.Docstring(docstring), warnings=False)
    found = (section.value for section in sections if section.kind is griffe.DocstringSectionKind.parameters)
    return {parameter.name: parameter.description for parameters in found for parameter in parameters}


def parser_options(tree: ast.Module, names: dict[str, Any]) -> Iterator[Option]:
    """An option for each call of `add_argument` in the module."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    for call in sorted((one for one in calls if _called(one) == "add_argument"), key=lambda one: one.lineno):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        text = evaluate(given["help"], names) if "help" in given else None
        yield Option(
            evaluate(call.args[0], names), _parsed_kind(given, names), _parsed_default(given, names), text or ""
        )


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _parsed_kind(given: dict[str | None, ast.expr], names: dict[str, Any]) -> str:
    if str(evaluate(given["action"], names) if "action" in given else "").startswith("store_"):
        return "flag"
    if "choices" in given:
        return ", ".join(value(one) for one in evaluate(given["choices"], names))
    kind = ast.unparse(given["type"]) if "type" in given else "str"
    return _kind(kind.removesuffix(".fromisoformat").rsplit(".", 1)[-1])


def _parsed_default(given: dict[str | None, ast.expr], names: dict[str, Any]) -> str:
    if "default" in given:
        return _shown(given["default"], names)
    return REQUIRED if "required" in given else ""


def _kind(annotation: str) -> str:
    """A type in words; `| None` says that the option may be left out, which its default says already."""
    kind = annotation.removesuffix(" | None")
    several = kind.startswith(("list[", "tuple[", "Sequence["))
    inner = kind.split("[", 1)[1].rstrip("]").split(",")[0] if several else kind
    word = WORDS.get(inner, inner.replace("Literal[", "").rstrip("]").replace("'", "`"))
    return f"{word}, may be repeated" if several else word


def _shown(default: ast.expr, names: dict[str, Any]) -> str:
    held = evaluate(default, names)
    return "" if held in (None, "", [], ()) else value(str(held) if isinstance(held, Path) else held)
