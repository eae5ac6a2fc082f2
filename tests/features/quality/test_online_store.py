"""The quality gate of the online store: a materialized store passes, and each kind of damage is named."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from feast import FeatureStore
from feast.protos.feast.types.Value_pb2 import Value

from features.quality.gate import SuiteResult
from features.quality.online_store import check_online
from features.schema import EVENT_TIMESTAMP, read_views
from features.store.definitions import open_store
from tests.support import tiny_project, world
from tests.support.sqlite_store import execute, write_value

pytestmark = pytest.mark.integration

SCHEMA = world.schema()


@pytest.fixture
def online(project: Path, tmp_path: Path) -> Path:
    """A copy of the online store of the tiny project, to damage."""
    return Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))


def opened(project: Path, online: Path) -> FeatureStore:
    """The store of `project` with another SQLite file."""
    views = read_views(project / "data/features/views.json")
    registry = online.parent / "registry.db"
    return open_store(SCHEMA, views, features=project / "data/features", online=online, registry=registry)


def check(project: Path, online: Path, sample: int = 500, as_of: datetime | None = None) -> list[SuiteResult]:
    """The suites on the online store `online`."""
    features = project / "data/features"
    views = read_views(features / "views.json")
    return check_online(opened(project, online), SCHEMA, views, features, sample, as_of=as_of)


def failed(suites: list[SuiteResult]) -> dict[tuple[str, str, str], list[dict]]:
    """Examples by severity, suite and name of every rule that is broken."""
    return {(o.rule.severity, suite.name, o.rule.name): o.examples for suite in suites for o in suite.failed}


def test_what_materialize_wrote_passes(project: Path, online: Path) -> None:
    """Every entity of the tiny world has online the values of its newest row, with types and nulls."""
    suites = check(project, online)
    assert not failed(suites)
    pairs = duckdb.sql(f"select distinct user_id, scenario from '{project}/data/features/user_in_scenario.parquet'")
    assert {suite.name: suite.rows for suite in suites} == {"user": 12, "item": 9, "user_in_scenario": len(pairs)}


def test_a_value_that_differs_is_named_with_both_values(project: Path, online: Path) -> None:
    """Another price, a null city and another list of items: feature, count, entity and both values."""
    features = project / "data/features"
    assert write_value(online, "item", "price", Value(float_val=1234.5)) == 9
    assert write_value(online, "user", "city", Value()) == 12
    newest = f"select user_id, arg_max(city, {EVENT_TIMESTAMP}) as city from '{features}/user.parquet' group by user_id"
    (cities,) = duckdb.sql(f"select count(city) from ({newest})").fetchone()
    (price,) = duckdb.sql(
        f"select arg_max(price, {EVENT_TIMESTAMP}) from '{features}/item.parquet' where item_id = 0"
    ).fetchone()
    broken = failed(check(project, online))
    assert broken.keys() == {("critical", name, "online value differs") for name in ("user", "item")}
    (example,) = broken["critical", "item", "online value differs"]
    assert example == {
        "feature": "price",
        "online value differs": 9,
        "first entity": "item_id 0",
        "online": "1234.5",
        "offline": str(price),
    }
    (example,) = broken["critical", "user", "online value differs"]
    assert (example["feature"], example["online value differs"], example["online"]) == ("city", cities, "None")


def test_a_value_of_another_type_is_named(project: Path, online: Path) -> None:
    """A count that is stored as a float has the right value and the wrong type."""
    write_value(online, "user", "user_impressions_all", Value(float_val=3.0))
    broken = failed(check(project, online))
    (example,) = broken["critical", "user", "online value of another type"]
    assert example == {
        "feature": "user_impressions_all",
        "online value of another type": 12,
        "first of another type": "3.0",
    }


def test_an_entity_that_is_not_online_is_named(project: Path, online: Path) -> None:
    """Without any row of the items, all nine are reported as absent."""
    assert execute(online, "delete from hinet_item")
    broken = failed(check(project, online))
    (example,) = broken["critical", "item", "absent entities"]
    assert (example["entities"], example["absent entities"]) == (9, 9)
    assert example["first absent"] == ", ".join(f"item_id {item}" for item in range(5))


def test_a_store_materialized_up_to_a_timestamp_is_compared_as_of_it(project: Path, tmp_path: Path) -> None:
    """After an incremental materialization up to the third day, the values are those of the third day, not the last."""
    as_of = datetime(2026, 1, 8, 12, tzinfo=UTC)
    opened(project, tmp_path / "online.db").materialize(datetime(1900, 1, 1, tzinfo=UTC), as_of)
    assert not failed(check(project, tmp_path / "online.db", as_of=as_of))
    assert ("critical", "item", "online value differs") in failed(check(project, tmp_path / "online.db"))


def test_a_sample_is_the_same_again(project: Path, online: Path) -> None:
    """Five of twelve users, the same five: their damaged value is reported each time with the same example."""
    write_value(online, "user", "user_impressions_all", Value(int64_val=10**6))
    first, second = (check(project, online, sample=5) for _ in range(2))
    assert [suite.rows for suite in first] == [5, 5, 5]
    assert failed(first) == failed(second) != {}
