"""The border of the online store: what materialize wrote passes, and each planted fault is named."""

import contextlib
import hashlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from feast import FeatureStore
from feast.protos.feast.types.Value_pb2 import Value

from common.errors import ValidationError
from features.inspect_online import inspect_online
from features.quality.gate import SuiteResult
from features.quality.online_store import check_online
from features.schema import EVENT_TIMESTAMP, read_views
from features.store.definitions import open_store
from features.store.item_snapshot import item_snapshot_path
from tests.support import tiny_project, world

SCHEMA = world.schema()


@pytest.fixture
def online(project: Path, tmp_path: Path) -> Path:
    """A copy of the online store of the tiny project, to plant faults in, and of the item snapshot beside it."""
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    return Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))


def opened(project: Path, online: Path) -> FeatureStore:
    """The store of `project` with another SQLite file."""
    views = read_views(project / "data/features/views.json")
    registry = online.parent / "registry.db"
    return open_store(SCHEMA, views, features=project / "data/features", online=online, registry=registry)


def check(project: Path, online: Path, sample: int = 500, moment: datetime | None = None) -> list[SuiteResult]:
    """The suites on the online store `online`."""
    features = project / "data/features"
    views = read_views(features / "views.json")
    return check_online(opened(project, online), SCHEMA, views, features, sample, as_of=moment)


def failed(suites: list[SuiteResult]) -> dict[tuple[str, str, str], list[dict]]:
    """Examples by severity, suite and name of every rule that is broken."""
    return {(o.rule.severity, suite.name, o.rule.name): o.examples for suite in suites for o in suite.failed}


def write(online: Path, text: str, *values: object) -> int:
    """Change the SQLite file behind Feast's back; how many rows were changed."""
    with contextlib.closing(sqlite3.connect(online)) as connection, connection:
        return connection.execute(text, values).rowcount


def put(online: Path, view: str, feature: str, value: Value) -> int:
    """One value for a feature of every entity of a view."""
    stored = value.SerializeToString()
    return write(online, f"update hinet_{view} set value = ? where feature_name = ?", stored, feature)


def test_what_materialize_wrote_passes(project: Path, online: Path) -> None:
    """Every entity of the tiny world has online what its newest snapshot says, types and nulls too."""
    suites = check(project, online)
    assert not failed(suites)
    pairs = duckdb.sql(f"select distinct user_id, scenario from '{project}/data/features/user_in_scenario.parquet'")
    assert {suite.name: suite.rows for suite in suites} == {"user": 12, "item": 9, "user_in_scenario": len(pairs)}


def test_a_value_that_differs_is_named_with_both_values(project: Path, online: Path) -> None:
    """Another price, a null city and another list of items: feature, count, entity, and what each store says."""
    features = project / "data/features"
    assert put(online, "item", "price", Value(float_val=1234.5)) == 9
    assert put(online, "user", "city", Value()) == 12
    newest = f"select user_id, arg_max(city, {EVENT_TIMESTAMP}) as city from '{features}/user.parquet' group by user_id"
    (cities,) = duckdb.sql(f"select count(city) from ({newest})").fetchone()
    (price,) = duckdb.sql(
        f"select arg_max(price, {EVENT_TIMESTAMP}) from '{features}/item.parquet' where item_id = 0"
    ).fetchone()
    found = failed(check(project, online))
    assert found.keys() == {("critical", name, "online value differs") for name in ("user", "item")}
    (example,) = found["critical", "item", "online value differs"]
    assert example == {
        "feature": "price",
        "online value differs": 9,
        "first entity": "item_id 0",
        "online": "1234.5",
        "offline": str(price),
    }
    (example,) = found["critical", "user", "online value differs"]
    assert (example["feature"], example["online value differs"], example["online"]) == ("city", cities, "None")


def test_a_value_of_another_type_is_named(project: Path, online: Path) -> None:
    """A count that is stored as a float is right in value only."""
    put(online, "user", "user_impressions_all", Value(float_val=3.0))
    found = failed(check(project, online))
    (example,) = found["critical", "user", "online value of another type"]
    assert example == {
        "feature": "user_impressions_all",
        "online value of another type": 12,
        "first of another type": "3.0",
    }


def test_an_entity_that_is_not_online_is_named(project: Path, online: Path) -> None:
    """Without any row of the items, all nine are absent; a closed gate says so."""
    assert write(online, "delete from hinet_item")
    found = failed(check(project, online))
    (example,) = found["critical", "item", "absent entities"]
    assert (example["entities"], example["absent entities"]) == (9, 9)
    assert example["first absent"] == ", ".join(f"item_id {item}" for item in range(5))


def test_a_store_filled_up_to_a_moment_is_compared_as_of_it(project: Path, tmp_path: Path) -> None:
    """After an incremental materialization up to the third day, the values are those of the third day, not the last."""
    moment = datetime(2026, 1, 8, 12, tzinfo=UTC)
    opened(project, tmp_path / "online.db").materialize(datetime(1900, 1, 1, tzinfo=UTC), moment)
    assert not failed(check(project, tmp_path / "online.db", moment=moment))
    assert ("critical", "item", "online value differs") in failed(check(project, tmp_path / "online.db"))


def test_a_sample_is_the_same_again(project: Path, online: Path) -> None:
    """Five of twelve users, the same five: a fault of theirs is found each time with the same example."""
    put(online, "user", "user_impressions_all", Value(int64_val=10**6))
    first, second = (check(project, online, sample=5) for _ in range(2))
    assert [suite.rows for suite in first] == [5, 5, 5]
    assert failed(first) == failed(second) != {}


def test_the_stage_closes_the_gate_and_leaves_the_store_alone(project: Path, online: Path, tmp_path: Path) -> None:
    """It fails with what differs and what to do; the store that it read is the same to the byte."""
    world.write_params(tmp_path)
    put(online, "item", "price", Value(float_val=-1))
    before = hashlib.sha256(online.read_bytes()).digest()
    data, report = project / "data", tmp_path / "i.json"
    match = r"(?s)item: online value differs.*price.*dvc repro --force materialize"
    with contextlib.chdir(tmp_path), pytest.raises(ValidationError, match=match):
        inspect_online(
            schema=data / "schema.json", features=data / "features", online=online, report=report, docs=tmp_path / "i"
        )
    assert not json.loads(report.read_text())["tables"]["item"]["passed"]
    assert "The gate is closed" in (tmp_path / "i" / "index.html").read_text()
    assert hashlib.sha256(online.read_bytes()).digest() == before
