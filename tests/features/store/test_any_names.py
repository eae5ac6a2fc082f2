"""The gates, Feast, the online store and the snapshot hold any names, in a folder of any name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from features.engine.feature_views import feature_views
from features.quality.online_store import check_online, check_snapshot
from features.quality.raw_log import check_raw_log
from features.schema import Schema, View
from features.store.definitions import open_store
from features.store.feast_names import declared_name, feast_name
from features.store.incremental import BEGINNING
from features.store.item_snapshot import read_snapshot
from features.store.offline_store import newest_timestamp
from features.store.point_in_time import join_features
from features.store.snapshot_writer import write_snapshot
from tests.support import named_world, world
from tests.support.named_world import Names, other_names

pytestmark = pytest.mark.integration

TABLES = world.tables(rows=60, users=5, items=4, days=4)
FOLDER = "price=3 x*[y] it's"
ODD = {
    "of Feast": other_names(
        user_id="rn", item_id="entity_row_id", event_id="user:id", hour="event_timestamp", city="x_y", price="created"
    ),
    "of people": other_names(
        user_id="[id]",
        item_id="ключ",
        event_id="$x",
        timestamp="event time",
        hour="reasons",
        city='"hi"',
        price=" ",
        tags="a__b",
        click="<b>",
        order="it's",
        scenario="a.b",
        registered_at="day of the file",
        listed_at="rows of users",
    ),
}


@given(name=named_world.TEXT)
def test_a_name_in_feast_is_plain_and_comes_back(name: str) -> None:
    """The name in Feast has letters, digits and underscores only, and the declared one is read from it."""
    assert feast_name(name).isascii()
    assert feast_name(name).isidentifier()
    assert declared_name(feast_name(name)) == name


@pytest.fixture(scope="module", params=ODD.values(), ids=ODD)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Names]:
    """The tiny world under odd names, ingested and aggregated in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("world") / FOLDER
    folder.mkdir()
    named_world.run_stages(folder, request.param, TABLES)
    return folder, request.param


def declared(names: Names) -> tuple[Schema, tuple[View, ...]]:
    """Schema and views under these names."""
    return names.schema(), feature_views(names.schema(), named_world.SETTINGS)


def test_the_gate_of_the_raw_log_accepts_every_row(built: tuple[Path, Names]) -> None:
    """No row of a valid log goes to quarantine, whatever its columns are called; labels that imply others neither."""
    folder, names = built
    out, quarantine = folder / "validated", folder / "quarantine"
    results = check_raw_log(names.schema(), ingested=folder / "ingested", out=out, quarantine=quarantine, tolerance=0)
    assert {result.table: (result.quarantined, result.faults) for result in results} == dict.fromkeys(
        ("users", "items", "events"), (0, [])
    )
    assert pq.read_schema(quarantine / "events.parquet").names[:-1] == [c.name for c in names.schema().events]


def test_feast_joins_what_the_views_hold(built: tuple[Path, Names]) -> None:
    """The join through Feast has the values of a join of the files, under the declared names."""
    folder, names = built
    schema, views = declared(names)
    store = open_store(schema, views, features=folder, online=folder / "o.db", registry=folder / "r.db")
    files = sorted((folder / "ingested" / "events").glob("*/*.parquet"))
    events = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    expected = pq.read_table(folder / "training.parquet")
    actual = join_features(store, schema, views, events)
    assert actual.column_names == expected.column_names
    assert named_world.values(actual, {}) == named_world.values(expected, {})


def test_the_online_store_holds_what_the_views_hold(built: tuple[Path, Names]) -> None:
    """Every value of the online store and of the item snapshot is that of the newest row of its view."""
    folder, names = built
    schema, views = declared(names)
    store = open_store(schema, views, features=folder, online=folder / "online.db", registry=folder / "registry.db")
    as_of = newest_timestamp(views, folder)
    store.materialize(BEGINNING, as_of)
    write_snapshot(schema, views, features=folder, as_of=as_of, path=folder / "items.parquet")
    suites = check_online(store, schema, views, folder, 100)
    suites.append(
        check_snapshot(read_snapshot(folder / "items.parquet", schema, views).rows, schema, views, folder, 100)
    )
    assert [outcome.rule.name for suite in suites for outcome in suite.failed] == []
    assert [suite.rows for suite in suites] == [5, 4, 15, 4]
