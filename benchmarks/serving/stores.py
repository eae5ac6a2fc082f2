"""The online stores that the service is measured on: the SQLite file as it is, or a Redis filled from the views."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving.servers import redis_server
from common.errors import PipelineError
from common.settings import variable
from features.store.definitions import open_store
from features.store.incremental import BEGINNING
from features.store.offline_store import newest_timestamp
from models.model_folder import Model

SQLITE, REDIS = "sqlite", "redis"


@contextmanager
def online_store(kind: str, model: Model, features: Path) -> Iterator[dict[str, str]]:
    """The environment of a service with the online store `kind`; Redis is started and filled from `features`."""
    if kind == SQLITE:
        yield {}
        return
    with redis_server() as (port, _):
        fill_redis(port, model, features)
        yield {variable("redis"): f"127.0.0.1:{port}"}


@contextmanager
def locked_file(online: Path) -> Iterator[None]:
    """An exclusive lock on the SQLite file: no other connection can read it."""
    with closing(sqlite3.connect(online, isolation_level=None)) as connection:  # closing it releases the lock
        connection.execute("pragma locking_mode = exclusive")
        connection.execute("begin exclusive")
        yield


def fill_redis(port: int, model: Model, features: Path) -> None:
    """Write the newest rows of the users' views under `features` to the Redis at `port`; raises PipelineError.

    Rows of items are left out: the service reads them from its snapshot.
    """
    if not features.is_dir():
        raise PipelineError(f"{features} does not exist, from which Redis is filled: run `dvc repro aggregate`")
    with TemporaryDirectory() as scratch:
        registry = Path(scratch) / "registry.db"
        store = open_store(
            model.schema,
            model.views,
            features=features,
            online=registry,
            registry=registry,
            redis=f"127.0.0.1:{port}",
        )
        names = [view.name for view in model.views if model.schema.item not in view.keys]
        store.materialize(BEGINNING, newest_timestamp(model.views, features), feature_views=names)
