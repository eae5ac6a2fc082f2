"""The page of the HTTP API: the OpenAPI description of the service for the data set of params.yaml, as Markdown."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import params
from docs.generator.markdown import code, page, table, type_of
from features import datasets
from features.aggregate import feature_views
from serving.http.openapi import describe
from serving.ranking.request import request_type

INTRODUCTION = """
`bentoml serve` answers at `http://127.0.0.1:3000`. The page `/` of the running service shows the same description, and
`/docs.json` has it as OpenAPI 3.1. The columns below are those of the data set `{name}`: the request type is made from the
schema of the data set that the model was trained on. Fields are strict: `"1"` is not `1`, and an unknown field is
refused.

What each status means for an operator is on the page [Operations](../operations/index.md)."""
SECURITY = """
## Authentication

With `HINET_API_KEY` set, every path but `/livez`, `/healthz` and `/readyz` needs the header `Authorization: Bearer KEY`;
without it the answer is 401. Without the variable the service answers everybody who reaches its port."""


def http_page(root: Path) -> str:
    """The page for the data set that params.yaml in the folder `root` names."""
    name, described = description(root)
    paths = described["paths"]
    return page(
        "HTTP API",
        "serving/http/openapi.py",
        INTRODUCTION.format(name=name),
        "## Paths\n\n" + table(["method", "path", "purpose"], _paths(paths)),
        *(_operation(path, method, one) for path, method, one in _operations(paths) if "requestBody" in one),
        "## Statuses\n\nAny answer other than 200 is a problem as JSON (RFC 9457).\n\n"
        + table(["status", "reason"], sorted(_statuses(paths).items())),
        SECURITY,
        "## Types",
        *(_type(name, schema) for name, schema in sorted(described["components"]["schemas"].items())),
    )


def description(root: Path) -> tuple[str, dict[str, Any]]:
    """Name of the data set, and the OpenAPI description of a service without a key."""
    settings = params.load(root / "params.yaml")
    schema = datasets.declare(settings.dataset)
    accepted = request_type(schema, settings.serve, feature_views(schema, settings.aggregate))
    return schema.name, describe(accepted, settings.serve, secured=False)


def _operations(paths: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in paths.items():
        for method, one in methods.items():
            yield path, method.upper(), one


def _paths(paths: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    return ((method, f"`{path}`", one["summary"]) for path, method, one in _operations(paths))


def _operation(path: str, method: str, one: Mapping[str, Any]) -> str:
    content = one["requestBody"]["content"]["application/json"]
    answer = one["responses"]["200"]["content"]["application/json"]["schema"]
    examples = (code(json.dumps(held["value"], indent=2), "json") for held in content["examples"].values())
    types = f"Body: {type_of(content['schema'])}. Answer: {type_of(answer)}."
    return "\n\n".join([f"## {method} {path}", f"{one['summary']}.", types, "Examples of a body:", *examples])


def _statuses(paths: Mapping[str, Any]) -> dict[str, str]:
    return {
        status: answer["description"]
        for _, _, one in _operations(paths)
        for status, answer in one["responses"].items()
    }


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        (f"`{field}`", type_of(held), "yes" if field in required else "no", held.get("description", ""))
        for field, held in schema.get("properties", {}).items()
    )
    return f"### {name}\n\n{schema.get('description', '')}\n\n{table(['field', 'type', 'required', 'meaning'], rows)}"
