"""The HTTP API: the OpenAPI description of the service for the data set of params.yaml, as Markdown."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import params
from docs.generator.markdown import code, table, type_of
from features import datasets
from features.engine.feature_views import feature_views
from serving.events.event_request import event_type
from serving.http.openapi import describe
from serving.ranking.request import RankRequest, request_type


@functools.cache
def description(root: Path) -> dict[str, Any]:
    """The OpenAPI description of a service without a key, for the data set that params.yaml in `root` names."""
    settings = params.load(root / "params.yaml")
    events = event_type(datasets.declare(settings.dataset))
    return describe(accepted_type(root), settings.serve, secured=False, events=events)


def accepted_type(root: Path) -> type[RankRequest]:
    """The type of a request of that service."""
    settings = params.load(root / "params.yaml")
    schema = datasets.declare(settings.dataset)
    return request_type(schema, settings.serve, feature_views(schema, settings.aggregate))


def paths(root: Path) -> str:
    """Method, path and purpose of each operation."""
    rows = ((method, f"`{path}`", one["summary"]) for path, method, one in _operations(root))
    return table(["method", "path", "purpose"], rows)


def bodies(root: Path) -> str:
    """A section for each operation with a body: its types, and examples."""
    found = _operations(root)
    return "\n\n".join(_operation(path, method, one) for path, method, one in found if "requestBody" in one)


def statuses(root: Path) -> str:
    """Every status that an operation can answer."""
    answers = (one["responses"].items() for _, _, one in _operations(root))
    found = {status: answer["description"] for items in answers for status, answer in items}
    return table(["status", "reason"], sorted(found.items()))


def types(root: Path) -> str:
    """A table of fields for each type of a body."""
    schemas = description(root)["components"]["schemas"]
    return "\n\n".join(_type(name, schema) for name, schema in sorted(schemas.items()))


def _operations(root: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description(root)["paths"].items():
        for method, one in methods.items():
            yield path, method.upper(), one


def _operation(path: str, method: str, one: Mapping[str, Any]) -> str:
    content = one["requestBody"]["content"]["application/json"]
    answer = one["responses"]["200"]["content"]["application/json"]["schema"]
    examples = (code(json.dumps(held["value"], indent=2), "json") for held in content["examples"].values())
    types = f"Body: {type_of(content['schema'])}. Answer: {type_of(answer)}."
    return "\n\n".join([f"## {method} {path}", f"{one['summary']}.", types, "Examples of a body:", *examples])


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        (f"`{field}`", type_of(held), "yes" if field in required else "no", held.get("description", ""))
        for field, held in schema.get("properties", {}).items()
    )
    return f"### {name}\n\n{schema.get('description', '')}\n\n{table(['field', 'type', 'required', 'meaning'], rows)}"
