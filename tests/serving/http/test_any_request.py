"""Property tests of the HTTP API: any request is answered or refused as documented, never by a server error."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support import world

FEW, MANY = 300, 5000  # cases of a normal test and of a slow one
MODES = ("positive", "negative")  # requests that the document allows, and others
SCHEMA = world.schema()
PATHS = {"/rank", "/rank_batch", "/model"}
pytestmark = [
    pytest.mark.integration,
    # Schemathesis draws with the module `random` in some of its strategies (a header, a null in a path)
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
IDS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
COLUMNS = sorted({column.name for table in ("users", "items") for column in SCHEMA.profile(table)})
VALUES = st.none() | IDS | NUMBERS | st.text(max_size=5) | st.lists(IDS, max_size=3)
RANGES = st.fixed_dictionaries({}, optional={"min": NUMBERS, "max": NUMBERS})
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "user_id": IDS,
    "scenario": st.sampled_from(SCHEMA.scenarios),
    "candidates": st.lists(IDS, min_size=1, max_size=20, unique=True) | st.just("all"),
    "filters": st.dictionaries(st.sampled_from(COLUMNS), VALUES | RANGES | st.lists(VALUES, max_size=3), max_size=2),
    "exclude": st.none()
    | st.just("seen")
    | st.lists(IDS, max_size=20)
    | st.fixed_dictionaries({"seen": st.booleans()}),
    "diversify": st.none()
    | st.fixed_dictionaries(
        {"by": st.sampled_from(["tags", "tags", "price"]), "most": st.integers(0, 3)},
        optional={"first": st.none() | st.integers(0, 12)},
    ),
    "k": st.none() | st.integers(-1, 1001),
    "objective": st.fixed_dictionaries({task: st.floats(0, 1e300) | NUMBERS for task in SCHEMA.task_names}),
    "context": st.fixed_dictionaries({}, optional={"hour": st.none() | st.integers(-1, 24)}),
    "overrides": st.fixed_dictionaries(
        {},
        optional={
            "user": st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=2),
            "items": st.dictionaries(st.sampled_from(COLUMNS), st.lists(VALUES, max_size=20), max_size=2),
        },
    ),
    "explain": st.booleans(),
}
REQUIRED = ("user_id", "scenario", "candidates")


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """A body: valid, with up to two fields of any value, or any JSON value."""
    if draw(st.integers(0, 19)) == 0:
        return draw(JSON)
    arbitrary = draw(st.sets(st.sampled_from([*FIELDS, "another"]), max_size=2))
    optional = draw(st.sets(st.sampled_from([name for name in FIELDS if name not in REQUIRED])))
    names = {*REQUIRED, *optional, *arbitrary}
    return {name: draw(JSON if name in arbitrary else FIELDS[name]) for name in sorted(names)}


def check(response: Any) -> None:
    """The response is a ranking or a problem, and no server error."""
    assert response.status_code < 500, response.text[:2000]
    document = response.json()
    if response.status_code == 200:
        assert len(document["item_ids"]) == len(document["scores"]) == len(document["probabilities"]["click"])
        others = document["scores"][document.get("diversified", 0) :]
        assert others == sorted(others, reverse=True)
    else:
        assert 400 <= response.status_code < 500
        assert set(document) >= {"title", "status", "detail"}


def post(client: Any, body: Any) -> None:
    """Send a body and check the response."""
    text = json.dumps(body).encode("utf-8", "surrogatepass")
    check(client.post("/rank", content=text, headers={"Content-Type": "application/json"}))


def send_bodies(client: Any, cases: int) -> None:
    """Send `cases` bodies that are requests, or nearly."""
    sent: list[int] = []

    @settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(body=requests())
    def send(body: Any) -> None:
        sent.append(1)
        post(client, body)

    send()
    assert len(sent) >= cases * 0.9


def send_documented(client: Any, cases: int) -> None:
    """Send `cases` requests, half of them as the OpenAPI document describes them, spread over its operations."""
    import schemathesis  # a second of every collection, for the slow tests alone

    document = schemathesis.openapi.from_dict(client.get("/docs.json").json())
    operations = [
        operation for operation in (one.ok() for one in document.get_all_operations()) if operation.path in PATHS
    ]
    assert {operation.path for operation in operations} == PATHS
    with_body = [operation for operation in operations if operation.method.upper() != "GET"]
    for operation in operations:
        if operation not in with_body:  # it has no input that could be invalid: there is only one request
            _send_documented(client, operation, "positive", cases)
    each = cases // (len(with_body) * len(MODES))
    sent = sum(_send_documented(client, operation, mode, each) for operation in with_body for mode in MODES)
    assert sent >= cases * 0.9


def _send_documented(client: Any, operation: Any, mode: str, cases: int) -> int:
    """Send requests for one operation; returns how many there were."""
    from schemathesis import GenerationMode

    sent: list[int] = []

    @settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate, Phase.shrink],
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
    def call(case: Any) -> None:
        sent.append(1)
        request = case.as_transport_kwargs(base_url="http://testserver")
        response = client.request(
            request["method"],
            request["url"],
            headers=dict(request.get("headers") or {}),
            params=request.get("params"),
            json=request.get("json"),
            content=request.get("data"),
        )
        assert response.status_code < 500, response.text[:2000]
        if mode == "positive" and response.status_code == 200:
            response.json()

    call()
    return len(sent)


def test_bodies_are_answered_or_refused(client: Any) -> None:
    """A few hundred valid, nearly valid and arbitrary bodies get a ranking or a problem."""
    send_bodies(client, FEW)


def test_requests_by_the_openapi_document_are_answered_or_refused(client: Any) -> None:
    """A few hundred requests that the document allows or forbids cause no server error."""
    send_documented(client, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_bodies_are_answered_or_refused(client: Any) -> None:
    """Thousands of bodies get a ranking or a problem."""
    send_bodies(client, MANY)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_requests_by_the_openapi_document_are_answered_or_refused(client: Any) -> None:
    """Thousands of requests that the document allows or forbids cause no server error."""
    send_documented(client, MANY)
