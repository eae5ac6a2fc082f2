"""The OpenAPI document is complete: every path and status of the service, with bodies of the declared schemas."""

import json
import re
import warnings
from typing import Any

import jsonschema
import pytest

from common import params
from common.paths import PARAMS, ROOT
from serving.http.openapi import PROBLEMS, describe
from serving.ranking.request import request_type
from tests.support import world

SERVE = params.load(ROOT / PARAMS).serve
DOCUMENT = describe(request_type(world.schema(), SERVE), SERVE, secured=False)
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def document(client: Any) -> dict:
    """The OpenAPI document of the service."""
    return client.get("/docs.json").json()


def validate(document: dict, schema: Any, value: Any) -> None:
    """Raise ValidationError unless `value` is valid for `schema`."""
    jsonschema.validate(value, {"components": document["components"]} | schema)


def check_declared(document: dict, path: str, method: str, response: Any) -> None:
    """The document declares the response's status, media type and body."""
    declared = document["paths"][path][method]["responses"][str(response.status_code)]["content"]
    (media_type,) = declared
    assert response.headers["content-type"].startswith(media_type)
    if "json" in media_type:
        validate(document, declared[media_type]["schema"], response.json())


@pytest.mark.parametrize("path", ["/rank", "/rank_batch"])
def test_each_example_is_answered_as_declared(client: Any, document: dict, path: str) -> None:
    """The examples are valid for the schema of the request, and their answers for that of the response."""
    operation = document["paths"][path]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        validate(document, operation["requestBody"]["content"]["application/json"]["schema"], example["value"])
        response = client.post(path, json=example["value"])
        assert response.status_code == 200, response.text
        check_declared(document, path, "post", response)


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"[]", "application/json", 422),
        (b" " * 2_000_000, "application/json", 413),
    ],
    ids=["400", "415", "422", "413"],
)
def test_each_problem_is_declared(client: Any, document: dict, body: bytes, media_type: str, status: int) -> None:
    """With its status and the schema of its body."""
    response = client.post("/rank", content=body, headers={"Content-Type": media_type})
    assert response.status_code == status
    check_declared(document, "/rank", "post", response)


def test_each_get_path_is_declared(client: Any, document: dict) -> None:
    """The paths of the service and the probes; POST /rank declares every problem."""
    for path in ("/model", "/docs.json", "/metrics", "/healthz", "/livez", "/readyz"):
        check_declared(document, path, "get", client.get(path))
    assert set(document["paths"]["/rank"]["post"]["responses"]) == {"200", *map(str, PROBLEMS)}


def test_the_request_is_described_by_the_schema_of_the_data_set(document: dict) -> None:
    """It has the scenarios, and the features by name."""
    schemas = document["components"]["schemas"]
    assert schemas["RankRequest"]["properties"]["scenario"]["enum"] == list(world.schema().scenarios)
    assert set(schemas["Filters"]["properties"]) == set(schemas["ItemFeatures"]["properties"]) > {"price", "tags"}
    assert schemas["RankRequest"]["additionalProperties"] is False


def test_every_schema_is_valid_and_every_reference_resolves() -> None:
    """The schemas are JSON Schema 2020-12, as OpenAPI 3.1 requires."""
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
    for schema in DOCUMENT["components"]["schemas"].values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jsonschema.Draft202012Validator.check_schema(schema)


def test_the_documentation_page_loads_nothing_from_other_hosts(client: Any) -> None:
    """Its scripts and styles come from the service."""
    index = client.get("/").text
    loaded = re.findall(r'(?:href|src)="\./([^"]+)"', index)
    assert len(loaded) == 3
    assert "//" not in index
    assert [client.get(f"/{path}").status_code for path in loaded] == [200] * 3


def test_the_api_key_is_declared_where_one_is_required() -> None:
    """With a key every path but the probes declares it; without one none does."""
    secured = describe(request_type(world.schema(), SERVE), SERVE, secured=True)
    assert secured["security"] == [{"key": []}]
    assert secured["paths"]["/readyz"]["get"]["security"] == []
    assert "security" not in DOCUMENT
