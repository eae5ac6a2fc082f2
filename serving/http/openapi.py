"""The OpenAPI document: every path with every status that it can answer, and examples."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from common.serve_params import Serve
from serving.events.event_request import Event
from serving.http.event_intake import EventsResponse
from serving.http.model_info import ModelInfo
from serving.http.problem_details import MEDIA_TYPE, Problem
from serving.http.response import RankingResponse
from serving.ranking.request import RankRequest

REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = """\
Ranks items for a user in a scenario. JSON only; an answer other than 200 is a problem (RFC 9457) that names fields and
rules."""
PROBLEMS = {  # by status
    400: "The body is no JSON",
    401: "Without the key of the service",
    405: "Another method",
    408: "The body arrives too slowly",
    413: "The body is too large",
    415: "The body is not announced as JSON",
    422: "The body breaks a rule: which, where, and what was found",
    429: "Too many requests at once: see Retry-After",
    500: "A fault of the service; its log has the cause",
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
"""  # uses BentoML's copy of Swagger UI; BentoML's own index loads a tracker from another host
BODY_PROBLEMS = (400, 408, 413, 415, 422, 429)
PROBES = {"/livez": "Is the process alive?", "/healthz": "The same", "/readyz": "Can it answer?"}


def describe(
    accepted: type[RankRequest], settings: Serve, *, secured: bool, events: type[Event] | None = None
) -> dict[str, Any]:
    """The document of a service that answers requests of the type `accepted`; `secured`: with an API key.

    `events` is the type of what POST /events takes; None: it takes nothing.
    """
    listed = accepted.model_json_schema()["example"]
    many = {"type": "array", "minItems": 1, "maxItems": settings.limits.batch, "items": _reference("RankRequest")}
    rankings = {"type": "array", "items": _reference("RankingResponse")}
    all_items = listed | {"candidates": "all", "k": 2, "explain": True}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "HiNet ranking", "version": "1", "description": DESCRIPTION},
        "servers": [{"url": "."}],
        "paths": {
            "/rank": {
                "post": _post(
                    "rank",
                    "Rank items for one user in one scenario",
                    _reference("RankRequest"),
                    {"listed": listed, "all": all_items},
                    _reference("RankingResponse"),
                )
            },
            "/rank_batch": {
                "post": _post(
                    "rank_batch",
                    "Rank for several users; answers in order",
                    many,
                    {"two": [listed, all_items]},
                    rankings,
                )
            },
            **({} if events is None else {"/events": {"post": _events(events, settings)}}),
            "/model": {
                "get": _get("model", "Which model answers, and what a request may name", _reference("ModelInfo")),
                "post": _post(
                    "post_model",
                    "The same, for the clients of BentoML",
                    {"type": "object", "additionalProperties": False},
                    {"empty": {}},
                    _reference("ModelInfo"),
                ),
            },
            "/docs.json": {"get": _get("page", "This document", {"type": "object"})},
            "/metrics": {"get": _get("metrics", "For Prometheus", {"type": "string"}, "text/plain")},
        }
        | {path: {"get": _probe(path, summary)} for path, summary in PROBES.items()},
        "components": {"schemas": _schemas(accepted, events)},
    }
    return document | _security(document) if secured else document


def _post(name: str, summary: str, body: Any, examples: dict[str, Any], answer: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": body, "examples": {n: {"value": e} for n, e in examples.items()}}}
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": _ok(answer) | _problems(*PROBLEMS),
    }


def _events(events: type[Event], settings: Serve) -> dict[str, Any]:
    example = events.model_json_schema()["example"]
    clicked = example | {"event_id": example["event_id"] + 1}
    several = {"type": "array", "minItems": 1, "maxItems": settings.limits.events, "items": _reference("Event")}
    return _post(
        "events",
        "What was shown to users, and what is known of it: in their features at the next request",
        {"anyOf": [_reference("Event"), several]},
        {"one": example, "two": [example, clicked]},
        _reference("EventsResponse"),
    )


def _get(name: str, summary: str, answer: Any, media_type: str = "application/json") -> dict[str, Any]:
    statuses = (status for status in PROBLEMS if status not in BODY_PROBLEMS)
    return {"operationId": name, "summary": summary, "responses": _ok(answer, media_type) | _problems(*statuses)}


def _probe(path: str, summary: str) -> dict[str, Any]:
    responses = _ok({"type": "string"}, "text/plain") | _problems(405, 500, 503)
    return {"operationId": path.strip("/"), "summary": summary, "responses": responses, "security": []}


def _ok(schema: Any, media_type: str = "application/json") -> dict[str, Any]:
    return {"200": {"description": "OK", "content": {media_type: {"schema": schema}}}}


def _problems(*statuses: int) -> dict[str, Any]:
    retry_after = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    return {
        str(status): {
            "description": PROBLEMS[status],
            "content": {MEDIA_TYPE: {"schema": _reference("Problem")}},
        }
        | ({"headers": retry_after} if status in (429, 503) else {})
        for status in statuses
    }


def _schemas(accepted: type[RankRequest], events: type[Event] | None) -> dict[str, Any]:
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(accepted, "validation")]
    if events is not None:
        models += [(events, "validation"), (EventsResponse, "serialization")]
    models += [(model, "serialization") for model in (RankingResponse, Problem, ModelInfo)]
    schemas: dict[str, Any] = models_json_schema(models, ref_template=REFERENCE)[1]["$defs"]
    return schemas


def _security(document: dict[str, Any]) -> dict[str, Any]:
    schemes = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    return {"security": [{"key": []}], "components": document["components"] | schemes}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}
