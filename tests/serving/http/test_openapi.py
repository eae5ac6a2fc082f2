"""The OpenAPI page is complete: every path, every status that is answered, bodies that are what it says."""

import json
import re
import warnings
from typing import Any

import jsonschema
import pytest

from common import params
from serving.http.openapi import REFUSED, describe
from serving.ranking.request import request_type
from serving.service import ROOT
from tests.support import world

SERVE = params.load(ROOT / "params.yaml").serve
PAGE = describe(request_type(world.schema(), SERVE), SERVE, secured=False)


@pytest.fixture(scope="module")
def page(client: Any) -> dict:
    """The page of the service."""
    return client.get("/docs.json").json()


def valid(page: dict, schema: Any, value: Any) -> None:
    """`value` is what `schema` says; raises ValidationError."""
    jsonschema.validate(value, {"components": page["components"]} | schema)


def body_of(page: dict, path: str, method: str, response: Any) -> None:
    """The response is one that the page declares, with a body of its schema."""
    declared = page["paths"][path][method]["responses"][str(response.status_code)]["content"]
    (kind,) = declared
    assert response.headers["content-type"].startswith(kind)
    if "json" in kind:
        valid(page, declared[kind]["schema"], response.json())


@pytest.mark.parametrize("path", ["/rank", "/rank_batch"])
def test_each_example_is_answered_as_described(client: Any, page: dict, path: str) -> None:
    """The examples fit the schema of the request, and their answers that of the answer."""
    operation = page["paths"][path]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        valid(page, operation["requestBody"]["content"]["application/json"]["schema"], example["value"])
        response = client.post(path, json=example["value"])
        assert response.status_code == 200, response.text
        body_of(page, path, "post", response)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"[]", "application/json", 422),
        (b" " * 2_000_000, "application/json", 413),
    ],
    ids=["400", "415", "422", "413"],
)
def test_each_refusal_is_declared(client: Any, page: dict, body: bytes, kind: str, status: int) -> None:
    """With the schema of its body."""
    response = client.post("/rank", content=body, headers={"Content-Type": kind})
    assert response.status_code == status
    body_of(page, "/rank", "post", response)


def test_each_path_that_is_read_is_declared(client: Any, page: dict) -> None:
    """Ours and the probes."""
    for path in ("/model", "/docs.json", "/metrics", "/healthz", "/livez", "/readyz"):
        body_of(page, path, "get", client.get(path))
    assert set(page["paths"]["/rank"]["post"]["responses"]) == {"200", *map(str, REFUSED)}


def test_the_request_is_described_by_the_schema_of_the_log(page: dict) -> None:
    """Scenarios, bounds of the context, features by name."""
    schemas = page["components"]["schemas"]
    assert schemas["RankRequest"]["properties"]["scenario"]["enum"] == list(world.schema().scenarios)
    assert set(schemas["Filters"]["properties"]) == set(schemas["ItemFeatures"]["properties"]) > {"price", "tags"}
    assert schemas["RankRequest"]["additionalProperties"] is False


def test_the_page_is_openapi() -> None:
    """As its own schema, JSON Schema 2020-12, has it: what is referred to is there."""
    text = json.dumps(PAGE)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(PAGE["components"]["schemas"])
    for schema in PAGE["components"]["schemas"].values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jsonschema.Draft202012Validator.check_schema(schema)


def test_a_person_can_read_the_page_without_a_network(client: Any) -> None:
    """All that it loads comes from the service itself: no script of others, no tracker."""
    index = client.get("/").text
    loaded = re.findall(r'(?:href|src)="\./([^"]+)"', index)
    assert len(loaded) == 3
    assert "//" not in index
    assert [client.get(f"/{path}").status_code for path in loaded] == [200] * 3


def test_a_key_is_described_where_one_is_wanted() -> None:
    """For all paths but the probes."""
    secured = describe(request_type(world.schema(), SERVE), SERVE, secured=True)
    assert secured["security"] == [{"key": []}]
    assert secured["paths"]["/readyz"]["get"]["security"] == []
    assert "security" not in PAGE
