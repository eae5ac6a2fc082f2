"""Whatever is sent, it is answered or refused: no server error, and always JSON (but for what is not ours)."""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.support import world

FEW, MANY = 300, 5000  # cases of the suite that has to pass; of each of the two long tests
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)  # as the page has it, and as it forbids
SCHEMA = world.schema()
PATHS = {"/rank", "/rank_batch", "/model"}

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
MANDATORY = ("user_id", "scenario", "candidates")


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """A body: every field right, or up to two of them anything, or anything at all."""
    if draw(st.integers(0, 19)) == 0:
        return draw(JSON)
    wrong = draw(st.sets(st.sampled_from([*FIELDS, "another"]), max_size=2))
    optional = draw(st.sets(st.sampled_from([name for name in FIELDS if name not in MANDATORY])))
    names = {*MANDATORY, *optional, *wrong}
    return {name: draw(JSON if name in wrong else FIELDS[name]) for name in sorted(names)}


def check(response: Any) -> None:
    """No server error; JSON in the form of its status."""
    assert response.status_code < 500, response.text[:2000]
    said = response.json()
    if response.status_code == 200:
        assert len(said["item_ids"]) == len(said["scores"]) == len(said["probabilities"]["click"])
        assert said["scores"] == sorted(said["scores"], reverse=True)
    else:
        assert 400 <= response.status_code < 500
        assert set(said) >= {"title", "status", "detail"}


def post(client: Any, body: Any) -> None:
    """Send a body, check what comes."""
    text = json.dumps(body).encode("utf-8", "surrogatepass")
    check(client.post("/rank", content=text, headers={"Content-Type": "application/json"}))


def asked(client: Any, cases: int) -> None:
    """So many bodies that are requests, or nearly."""
    seen: list[int] = []

    @settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(body=requests())
    def ask(body: Any) -> None:
        seen.append(1)
        post(client, body)

    ask()
    assert len(seen) >= cases * 0.9


def by_the_page(client: Any, cases: int) -> None:
    """So many requests: as the OpenAPI page describes them, and as it does not, evenly over what takes a body."""
    page = schemathesis.openapi.from_dict(client.get("/docs.json").json())
    ours = [found for found in (one.ok() for one in page.get_all_operations()) if found.path in PATHS]
    assert {operation.path for operation in ours} == PATHS
    bodies = [operation for operation in ours if operation.method.upper() != "GET"]
    for operation in ours:
        if operation not in bodies:  # it takes nothing that could be wrong: one request is all there is
            _by_the_page(client, operation, GenerationMode.POSITIVE, cases)
    each = cases // (len(bodies) * len(MODES))
    sent = sum(_by_the_page(client, operation, mode, each) for operation in bodies for mode in MODES)
    assert sent >= cases * 0.9


def _by_the_page(client: Any, operation: Any, mode: GenerationMode, cases: int) -> int:
    """Requests for one operation; how many there were."""
    seen: list[int] = []

    @settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate, Phase.shrink],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        seen.append(1)
        sent = case.as_transport_kwargs(base_url="http://testserver")
        response = client.request(
            sent["method"],
            sent["url"],
            headers=dict(sent.get("headers") or {}),
            params=sent.get("params"),
            json=sent.get("json"),
            content=sent.get("data"),
        )
        assert response.status_code < 500, response.text[:2000]
        if mode is GenerationMode.POSITIVE and response.status_code == 200:
            response.json()

    call()
    return len(seen)


def test_a_few_hundred_bodies(client: Any) -> None:
    """Right ones, nearly right ones, anything."""
    asked(client, FEW)


def test_a_few_hundred_requests_by_the_page(client: Any) -> None:
    """What the page allows and what it forbids."""
    by_the_page(client, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_bodies(client: Any) -> None:
    """The same, many times."""
    asked(client, MANY)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_requests_by_the_page(client: Any) -> None:
    """The same, many times."""
    by_the_page(client, MANY)
