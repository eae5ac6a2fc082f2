"""Whatever columns, tasks, scenarios and folders are called, every stage computes the same values."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from common.errors import SchemaError
from tests.support import named_world, world
from tests.support.named_world import Names, other_names

pytestmark = pytest.mark.integration

TABLES = world.tables(rows=60, users=5, items=4, days=4)
KNOWN = {
    "of views": other_names(hour="day_number", city="first_day", price="known_at", click="change", timestamp="a b"),
    "of SQL": other_names(
        user_id="101", item_id="rn", hour="order", order="select", city="Gender of user", tags="_date"
    ),
    "of gates": other_names(user_id="digest", event_id=".x", hour="day", tags="reasons", scenario="rows", click="a/b"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All values of the tiny world under its plain names."""
    return named_world.run_stages(tmp_path_factory.mktemp("plain"), named_world.PLAIN_NAMES, TABLES)


@pytest.mark.parametrize("names", KNOWN.values(), ids=KNOWN)
def test_known_names_change_no_value(tmp_path: Path, expected: dict[str, Any], names: Names) -> None:
    """Names that once met those of our statements, or read a day of the future, give the values of other names."""
    assert named_world.run_stages(tmp_path, names, TABLES) == expected


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=named_world.names())
def test_names_change_no_value(
    tmp_path_factory: pytest.TempPathFactory, expected: dict[str, Any], names: Names
) -> None:
    """Ingest, aggregate, join, encode and summarize give equal values under any names, or the schema refuses them."""
    try:
        names.schema()
    except SchemaError:
        assume(False)
    actual = named_world.run_stages(tmp_path_factory.mktemp("named"), names, TABLES)
    assert {name for name in expected if actual[name] != expected[name]} == set()


@pytest.mark.parametrize("folder", ["x*y", "price=3 [ab]? it's", 'a\\b {x,y} "ü" #%41'])
def test_folders_change_no_value(tmp_path: Path, expected: dict[str, Any], folder: str) -> None:
    """A folder may have any name: a pattern matches no folder beside it, and a partition gives no column."""
    beside = tmp_path / "xAy" / "ingested" / "events" / "day=2026-01-05"
    beside.mkdir(parents=True)
    (beside / "part-0.parquet").write_bytes(b"matched by x*y only")
    (tmp_path / folder).mkdir()
    assert named_world.run_stages(tmp_path / folder, named_world.PLAIN_NAMES, TABLES) == expected
