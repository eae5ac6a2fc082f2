"""The OpenAPI page: every path, with every status that it can answer, and examples."""

from typing import Any

from pydantic.json_schema import models_json_schema

from common.params import Serve
from serving.http.model_info import Card
from serving.http.problem_details import MEDIA_TYPE, Problem
from serving.http.response import Ranking
from serving.ranking.request import RankRequest

REFERENCE = "#/components/schemas/{model}"
ABOUT = """\
Ranks items for a user in a scenario. JSON only; an answer other than 200 is a problem (RFC 9457) that names fields and
rules."""
REFUSED = {
    400: "The body is no JSON",
    401: "Without the key of the service",
    405: "Another method",
    408: "The body arrives too slowly",
    413: "The body is too large",
    415: "The body is not announced as JSON",
    422: "The body breaks a rule: which, where, and what was found",
    429: "Too many requests at once: see Retry-After",
    500: "A fault of the service, told in its log",
    503: "Not ready, or overloaded: see Retry-After",
}
INDEX = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>HiNet ranking</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
<link rel="icon" href="./static_content/favicon-light-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "./docs.json", dom_id: "#page", deepLinking: true, validatorUrl: null})</script>
</body>
</html>
"""  # with BentoML's copy of Swagger, but not its own index, which loads a tracker from elsewhere
OF_BODY = (400, 408, 413, 415, 422, 429)
PROBES = {"/livez": "Is the process alive?", "/healthz": "The same", "/readyz": "Can it answer?"}


def describe(accepted: type[RankRequest], settings: Serve, *, secured: bool) -> dict[str, Any]:
    """The page of a service that answers requests of the type `accepted`; `secured`: for who has the key."""
    example = accepted.model_json_schema()["example"]
    many = {"type": "array", "minItems": 1, "maxItems": settings.limits.batch, "items": _reference("RankRequest")}
    rankings = {"type": "array", "items": _reference("Ranking")}
    whole = example | {"candidates": "all", "k": 2, "explain": True}
    page: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "HiNet ranking", "version": "1", "description": ABOUT},
        "servers": [{"url": "."}],
        "paths": {
            "/rank": {
                "post": _post(
                    "rank",
                    "Rank items for one user in one scenario",
                    _reference("RankRequest"),
                    {"listed": example, "all": whole},
                    _reference("Ranking"),
                )
            },
            "/rank_batch": {
                "post": _post(
                    "rank_batch", "Rank for several users; answers in order", many, {"two": [example, whole]}, rankings
                )
            },
            "/model": {"get": _get("model", "Which model answers, and what it may be asked", _reference("Card"))},
            "/docs.json": {"get": _get("page", "This page", {"type": "object"})},
            "/metrics": {"get": _get("metrics", "For Prometheus", {"type": "string"}, "text/plain")},
        }
        | {path: {"get": _probe(path, told)} for path, told in PROBES.items()},
        "components": {"schemas": _schemas(accepted)},
    }
    return page | _security(page) if secured else page


def _post(name: str, told: str, body: Any, examples: dict[str, Any], answer: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": body, "examples": {n: {"value": e} for n, e in examples.items()}}}
    return {
        "operationId": name,
        "summary": told,
        "requestBody": {"required": True, "content": content},
        "responses": _ok(answer) | _refusals(*REFUSED),
    }


def _get(name: str, told: str, answer: Any, kind: str = "application/json") -> dict[str, Any]:
    statuses = (status for status in REFUSED if status not in OF_BODY)
    return {"operationId": name, "summary": told, "responses": _ok(answer, kind) | _refusals(*statuses)}


def _probe(path: str, told: str) -> dict[str, Any]:
    responses = _ok({"type": "string"}, "text/plain") | _refusals(405, 500, 503)
    return {"operationId": path.strip("/"), "summary": told, "responses": responses, "security": []}


def _ok(schema: Any, kind: str = "application/json") -> dict[str, Any]:
    return {"200": {"description": "OK", "content": {kind: {"schema": schema}}}}


def _refusals(*statuses: int) -> dict[str, Any]:
    later = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    return {
        str(status): {
            "description": REFUSED[status],
            "content": {MEDIA_TYPE.decode(): {"schema": _reference("Problem")}},
        }
        | ({"headers": later} if status in (429, 503) else {})
        for status in statuses
    }


def _schemas(accepted: type[RankRequest]) -> dict[str, Any]:
    wanted = [(accepted, "validation"), *((model, "serialization") for model in (Ranking, Problem, Card))]
    return models_json_schema(wanted, ref_template=REFERENCE)[1]["$defs"]  # type: ignore[arg-type]


def _security(page: dict[str, Any]) -> dict[str, Any]:
    schemes = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    return {"security": [{"key": []}], "components": page["components"] | schemes}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}
