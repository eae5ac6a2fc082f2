"""Any mixture of valid and invalid fields is answered by a complete ranking or by a 422."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import world

IDS, NUMBERS = st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False, allow_infinity=False)
JUNK = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
RANGE = st.dictionaries(st.sampled_from(["min", "max"]), NUMBERS, max_size=2)
FIELDS = {
    "user_id": IDS,
    "scenario": st.sampled_from(world.schema().scenarios),
    "candidates": st.just("all") | st.lists(IDS | st.integers(0, 9), max_size=5),
    "filters": st.fixed_dictionaries({}, optional={"price": RANGE, "tags": st.lists(st.text(max_size=3), max_size=2)}),
    "k": st.none() | st.integers(-1, 1002),
    "objective": st.fixed_dictionaries({"click": st.floats(0, 1e308), "order": st.floats(0, 1e308)}),
    "context": st.fixed_dictionaries({}, optional={"hour": st.none() | st.integers(-1, 24)}),
    "overrides": st.fixed_dictionaries(
        {},
        optional={
            "user": st.fixed_dictionaries(
                {},
                optional={
                    "city": st.text(max_size=3),
                    "user_clicks_7d": NUMBERS,
                    "user_recent_items": st.lists(IDS, max_size=9),
                },
            ),
            "items": st.fixed_dictionaries(
                {},
                optional={
                    "price": st.lists(NUMBERS, max_size=5),
                    "tags": st.lists(st.lists(st.text(max_size=3)), max_size=5),
                },
            ),
        },
    ),
    "explain": st.booleans(),
}
pytestmark = [
    pytest.mark.integration,
    # threads of the service draw ids while Hypothesis draws a body, which takes it for a strategy that does
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional={name: valid | JUNK for name, valid in FIELDS.items()}), st.booleans())
def test_any_body_is_answered_or_refused(client: Any, body: dict, complete: bool) -> None:
    """Never by an error of the service, and a ranking has no null score."""
    body = ({"user_id": 1, "scenario": "feed", "candidates": [1, 2, 3]} if complete else {}) | body
    response = client.post("/rank", json=body)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 200:
        assert None not in response.json()["scores"], response.text
