"""Every key of params.yaml with its type and bounds (common/params.py), value and comment (params.yaml)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.params import Params, load
from common.yaml_file import read_utf8
from docs.generator.markdown import table, type_of, value

LINE = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?P<value>[^#]*)(?:#\s*(?P<comment>.*))?$")


def parameters(root: Path) -> str:
    """A table for each section of params.yaml in the folder `root`."""
    plain = load(root / "params.yaml").model_dump(mode="json", by_alias=True)  # with the defaults of keys left out
    schema = Params.model_json_schema()
    facts = schema["$defs"], comments(read_utf8(root / "params.yaml"))
    return "\n\n".join(_section(name, schema["properties"][name], plain[name], facts) for name in plain)


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
            yield _below(key), type_of(inner), value(plain[name]), _meaning(inner, meaning.get(key, ""))
            continue
        if key in meaning:
            yield _below(key), "mapping", "", meaning[key]
        yield from _rows(key, inner, plain[name], facts)


def _below(key: str) -> str:
    """A key without its section, which is the heading."""
    return f"`{key.split('.', 1)[1]}`"


def _meaning(schema: Mapping[str, Any], comment: str) -> str:
    """A comment that lists the possible values says no more than the type."""
    return "" if comment == " | ".join(map(str, schema.get("enum", []))) else comment


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    return definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
