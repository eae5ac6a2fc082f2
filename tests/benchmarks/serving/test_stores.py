"""The online stores of the serving benchmark."""

import contextlib
from pathlib import Path

import pytest
import redis

from benchmarks.serving.stores import REDIS, SQLITE, fill_redis, online_store
from common.errors import PipelineError
from models.model_folder import read_model
from tests.support import tiny_project
from tests.support.redis_process import needs_redis

pytestmark = pytest.mark.process


@needs_redis
def test_redis_is_filled_with_the_rows_of_users(project: Path) -> None:
    """The environment names the Redis, which has every user of the tiny world; SQLite needs no environment."""
    model = read_model(project / tiny_project.MODEL)
    with online_store(SQLITE, model, Path("nowhere")) as environment:
        assert environment == {}
    with online_store(REDIS, model, project / "data" / "features") as environment:
        host, port = environment["HINET_REDIS"].split(":")
        with contextlib.closing(redis.Redis(host, int(port))) as client:
            assert client.dbsize() >= 12
    with pytest.raises(PipelineError, match=r"nowhere does not exist, from which Redis is filled: run `dvc repro"):
        fill_redis(1, model, Path("nowhere"))
