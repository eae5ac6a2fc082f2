"""The benchmark of what a request pays for validation, metrics and logging."""

import json
from pathlib import Path

import pytest

from benchmarks.serving.per_request import per_request
from benchmarks.serving.request_overhead import LIMITS

pytestmark = pytest.mark.integration


def test_each_part_is_timed_and_has_a_limit(tmp_path: Path) -> None:
    """A part is reached if its fastest round is below its limit."""
    per_request(json=tmp_path / "parts.json", rounds=3)
    parts = json.loads((tmp_path / "parts.json").read_text())["parts"]
    assert {part["part"]: part["limit"] for part in parts} == LIMITS
    assert all(0 < part["fastest"] <= part["median"] for part in parts)
    assert all(part["reached"] == (part["fastest"] < part["limit"]) for part in parts)
