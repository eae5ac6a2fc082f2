"""Pieces of Markdown that the generated pages share, and JSON schema types in words."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
HUGE = 1e9  # a bound from here on keeps a number within what a type or a step can hold
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true` or `false`", "null": "`null`"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a pipe or a line break inside a cell does not end it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def code(text: str, language: str = "") -> str:
    """A fenced code block."""
    return f"```{language}\n{text.strip(chr(10))}\n```"


def value(plain: Any) -> str:
    """A plain value as params.yaml and JSON write it, as inline code."""
    return f"`{json.dumps(plain, ensure_ascii=False, default=str)}`".replace('`"', "`").replace('"`', "`")


def type_of(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words: its type, its bounds, its values; a reference becomes a link to its heading."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(type_of(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(value(one) for one in schema.get("enum", [schema.get("const")]))
    return _plain_type(schema)


def _plain_type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "any JSON value")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}{_length(schema)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping to {type_of(schema['additionalProperties'])}"
    if schema.get("format"):
        return str(schema["format"])
    pattern = f" like `{schema['pattern']}`" if "pattern" in schema else ""
    return f"{TYPES.get(kind, kind)}{pattern}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    bounds = [f"{sign} {schema[name]:g}" for name, sign in BOUNDS.items() if abs(schema.get(name, HUGE)) < HUGE]
    return f" {' and '.join(bounds)}" if bounds else ""


def _length(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    if least and most:
        return f" ({least} to {most} of them)"
    return f" (at least {least})" if least else f" (at most {most})" if most else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
