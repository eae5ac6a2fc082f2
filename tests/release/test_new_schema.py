"""A release after a change of the schema: compared with chance, once; the champion before stays as it was."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import ReleaseError
from common.settings import variable
from features.refresh import refresh
from features.schema import Column, DType, Kind, Role, read_schema
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import read_model
from release.promote import promote
from release.registry import CHAMPION
from serving.http.response import ranking_json
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from tests.support import tiny_project, world
from tests.support.redis_cluster import RedisClusterProcesses, needs_cluster
from tests.support.redis_process import NEWEST, RedisProcess
from tests.support.release_project import (
    BENTO,
    ENCODER,
    RELEASES,
    champion,
    make_challenger,
    records,
)

SCENARIOS = ("feed", "search", "channel", "home")
LIVE = Path("live/online.db")  # names the files of the Redis in use


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project after a fourth scenario and a column of the users were declared, and the pipeline ran."""
    tables, schema = world.tables(rows=600), world.schema(scenarios=SCENARIOS)
    tables["users"]["device"] = ["ios", "android"] * (len(tables["users"]) // 2)
    device = Column(name="device", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL)
    declared = dataclasses.replace(schema, users=(*schema.users, device))
    return tiny_project.build(tmp_path_factory.mktemp("changed"), tables=tables, declared=declared)


def change_the_schema(changed: Path, *, seed: int) -> None:
    """Let the tree be that of the changed project, with a challenger of its schema."""
    Path("data").unlink()
    Path("data").symlink_to(changed / "data")
    stores = (tiny_project.ONLINE, item_snapshot_path(tiny_project.ONLINE))
    for name in (ENCODER, *stores, Path("artifacts/reference.json")):
        shutil.copyfile(changed / name, name)
    make_challenger(seed=seed)


@pytest.mark.integration
def test_the_first_challenger_of_a_new_schema_is_compared_with_chance(
    root: Path, changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the option an error names it; with it the challenger is released; the next one meets a champion again."""
    promote()
    first = champion()
    change_the_schema(changed, seed=1)
    with pytest.raises(ReleaseError, match=r"they cannot be compared; .*--new-schema"):
        promote()
    assert champion() == first
    capsys.readouterr()
    assert promote(new_schema=True) == 0
    assert "chance" in capsys.readouterr().out
    assert read_model(RELEASES / CHAMPION / "model").schema.scenarios == SCENARIOS
    assert (records()[-1]["previous"], records()[-1]["tag"]) == (first, champion())
    make_challenger(seed=2)
    assert promote(new_schema=True) == 0
    assert "against the champion" in capsys.readouterr().out


@pytest.fixture(params=[RedisProcess, RedisClusterProcesses])
def redis(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Redis, or of a cluster, that is the online store in use."""
    server = request.param(tmp_path)
    monkeypatch.setenv(variable("redis"), server.address)
    monkeypatch.setenv(variable("online_store"), str(LIVE))
    yield server.address
    server.stop()


def answers(redis: str, scenario: str) -> bytes:
    """The answer about all items of a worker that starts now on the champion and the Redis, complete."""
    link = RELEASES / CHAMPION / "model"
    sources = ModelSources(link, LIVE, Path("live/registry.db"), redis)
    ranker = open_ranker(sources, tiny_project.with_read_timeout(Path()))
    accepted = request_type(read_schema(link / "schema.json"), tiny_project.with_read_timeout(Path()))
    result = ranker.rank(accepted(user_id=1, scenario=scenario, candidates="all"))
    assert result.degraded is None
    return bytes(ranking_json(result))


def refreshed() -> dict[str, Any]:
    """The report of a refresh of the Redis from the features of the tree."""
    data, out = Path("data"), LIVE.parent / "out"
    refresh(schema=data / "schema.json", features=data / "features", online=LIVE, as_of=NEWEST, out=out)
    report: dict[str, Any] = json.loads((out / "refresh.json").read_text())
    return report


def pack_snapshot() -> None:
    """Give the bento the item snapshot of its store, as `serving.package` does."""
    snapshot = item_snapshot_path(tiny_project.ONLINE)
    shutil.copyfile(snapshot, BENTO / "src" / snapshot)


@needs_cluster
@pytest.mark.process
@pytest.mark.slow
@pytest.mark.usefixtures("without_data_docs")
def test_the_champion_of_a_redis_outlives_the_schema(root: Path, changed: Path, redis: str) -> None:
    """The Redis stays the champion's, a challenger of the new schema is released, and gets the Redis by a refresh.

    Then the release before starts from its own store, with the answers that it gave from the Redis.
    """
    assert refreshed()["skipped"] is None
    pack_snapshot()
    assert promote() == 0
    first, of_first = champion(), answers(redis, "feed")
    change_the_schema(changed, seed=1)
    assert refreshed()["of_champion"]
    assert answers(redis, "feed") == of_first

    pack_snapshot()
    assert promote(new_schema=True) == 0
    from_own_store = answers(redis, "home")
    report = refreshed()
    assert (report["skipped"], report["whole"]) == (None, True)
    assert answers(redis, "home") == from_own_store

    assert promote(rollback=True) == 0
    assert (champion(), answers(redis, "feed")) == (first, of_first)
