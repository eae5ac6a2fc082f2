"""The page of params.yaml: every key with its type and bounds (common/params.py), value and comment (params.yaml)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from common.params import Params
from docs.generator.markdown import page, table, type_of, value

LINE = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?P<value>[^#]*)(?:#\s*(?P<comment>.*))?$")
INTRODUCTION = """
All parameters stand in `params.yaml`. An unknown key or a wrong value is an error that names the key. DVC runs a stage
again when a parameter of its section has changed; the sections of each stage are on the page [Pipeline](pipeline.md).
Change one for a single run with `dvc exp run -S KEY=VALUE`. Every key below is required; the column "value" shows the
one in the repository."""


def parameters_page(root: Path) -> str:
    """The page, from params.yaml in the folder `root`."""
    text = (root / "params.yaml").read_text()
    plain = YAML(typ="safe").load(text)
    schema = Params.model_json_schema()
    sections = (
        _section(name, schema["properties"][name], plain[name], (schema["$defs"], comments(text))) for name in plain
    )
    return page("Parameters", "common/params.py and params.yaml", INTRODUCTION, *sections)


def comments(text: str) -> dict[str, str]:
    """The comment of each key of a YAML file by its dotted path; a comment may go on in the lines below its key."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        if match := LINE.match(line):
            indent = len(match["indent"])
            path = [(depth, key) for depth, key in path if depth < indent] + [(indent, match["key"])]
            found[_dotted(path)] = (match["comment"] or "").strip()
        elif path and (more := line.strip()).startswith("#"):
            found[_dotted(path)] += " " + more.lstrip("# ")
    return {key: comment for key, comment in found.items() if comment}


def _dotted(path: list[tuple[int, str]]) -> str:
    return ".".join(key for _, key in path)


def _section(name: str, schema: Mapping[str, Any], plain: Any, facts: tuple[Mapping[str, Any], dict[str, str]]) -> str:
    definition = _resolved(schema, facts[0])
    rows = _rows(name, definition, plain, facts)
    return f"## {name}\n\n{definition['description']}\n\n{table(['key', 'type', 'value', 'meaning'], rows)}"


def _rows(
    path: str, schema: Mapping[str, Any], plain: Any, facts: tuple[Mapping[str, Any], dict[str, str]]
) -> Iterator[tuple[str, str, str, str]]:
    """A row for each key below `path`; a mapping with keys of its own has a row where it has a comment."""
    definitions, meaning = facts
    for name, field in schema["properties"].items():
        key, inner = f"{path}.{name}", _resolved(field, definitions)
        if "properties" not in inner:
            yield f"`{key}`", type_of(inner), value(plain[name]), meaning.get(key, "")
            continue
        if key in meaning:
            yield f"`{key}`", "mapping", "", meaning[key]
        yield from _rows(key, inner, plain[name], facts)


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    return definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
