"""The online store in use, as Feast's own commands open and write it: feature_store.yaml names these classes.

The store is the one that the service reads, by the same environment variables. What Feast materializes there follows
the rules of `features.refresh`: one writer at a time, an older row never replaces a newer one, the service's item
snapshot is kept up, and what the refresh has recorded of the store holds afterwards.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationTask
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.infra_object import InfraObject
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import make_tzaware

from common.errors import ParameterError, SnapshotError
from common.paths import FEATURES, ROOT, SCHEMA, VIEWS
from common.settings import read_settings
from features.schema import Schema, View, read_schema, read_views
from features.store.arrow_engine import ArrowEngine, Row, to_rows
from features.store.feast_names import feast_name
from features.store.ibis_backend import set_ibis_backend
from features.store.incremental import BEGINNING
from features.store.item_snapshot import item_snapshot_path, verify_snapshot
from features.store.offline_store import newest_timestamp
from features.store.online_settings import online_settings
from features.store.online_store import StoreUnavailableError, exclusive_access, note_other_writer
from features.store.snapshot_writer import write_snapshot
from features.store.sqlite_timestamps import set_utc_timestamps


class InUseOnlineStoreConfig:
    """Makes the settings of a SQLite file or of Feast's Redis store, as HINET_ONLINE_STORE and HINET_REDIS say.

    Feast takes the store's class from the type of its settings. YAML alone could not: Feast fills in environment
    variables, but knows no default for one that is not set.
    """

    def __new__(cls, **_: Any) -> Any:
        """The settings, of the class for this kind of store."""
        set_utc_timestamps()  # in every process that opens the repository: commands, servers, notebooks
        settings = read_settings()
        values = online_settings(ROOT / settings.online_store, settings.redis)
        return FileOnlineStoreConfig(**values) if settings.redis is None else RedisOnlineStoreConfig(**values)


class FileOnlineStoreConfig(SqliteOnlineStoreConfig):
    """The settings of a SQLite file; Feast finds the class of the store by this name."""


class FileOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store, whose tables are made by what writes them.

    Feast would record the path of each table in the registry. Where `feast apply` then finds another path, because the
    environment names another store, or the project was moved, it drops the table at the old path (Feast 0.67).
    """

    def plan(self, config: RepoConfig, desired_registry_proto: Registry) -> list[InfraObject]:
        """No table is for `feast apply` to make or to drop."""
        return []


class InUseEngineConfig(FeastConfigBaseModel):
    """The settings of the engine in feature_store.yaml: its type."""

    type: Literal["features.store.in_use.InUseEngine"] = "features.store.in_use.InUseEngine"


class InUseEngine(ArrowEngine):
    """Writes the rows that the store lacks; where items were among them, it replaces the item snapshot, too.

    A run that finds nothing new leaves the file of the store as it is, to the byte: it may be an output of DVC. Rows
    are read from the asked start on, or from where the store ends, if that is earlier: the registry may know more of
    another store than of this one, and a store with a gap would serve outdated values.
    """

    _new = 0  # rows written of the view at work
    _end: datetime | None = None  # of the store, before this process wrote to it

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        with _only_writer():
            return self._materialize_news(registry, task, **kwargs)

    def _materialize_news(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        set_ibis_backend()
        schema, views = read_schema(ROOT / SCHEMA), read_views(ROOT / VIEWS)
        self._end = self._end or _end_of_store(schema, views)
        self._new = 0
        self.online_store.update(self.repo_config, [], [task.feature_view], [], [], partial=True)  # makes its table
        since = dataclasses.replace(task, start_time=min(task.start_time, self._end))
        job = super()._materialize_one(registry, since, **kwargs)
        if self._new and task.feature_view.join_keys == [feast_name(schema.item)]:
            self._replace_snapshot(schema, views, task.end_time)
        print(f"{task.feature_view.name}: {self._new:,} rows written", flush=True)
        return job

    def _order(self, view: FeatureView, rows: pa.Table) -> pa.Array:
        """The newest rows come first: the first new one says up to when rows are about to be written."""
        assert view.batch_source is not None  # every view of definitions.py has one
        keys = [(field.name, "ascending") for field in view.entity_columns]
        return pc.sort_indices(rows, [(view.batch_source.timestamp_field, "descending"), *keys])

    def _write(self, view: FeatureView, batch: pa.RecordBatch) -> None:
        names = [field.name for field in view.features]
        rows = to_rows(view, batch)
        held = self.online_store.online_read(self.repo_config, view, [entity for entity, *_ in rows], names)
        new = [_is_news(row, *known) for row, known in zip(rows, held, strict=True)]
        if any(new):
            if not self._new:
                note_other_writer(_online(), view.name, make_tzaware(rows[new.index(True)][2]))
            super()._write(view, batch.filter(pa.array(new)))
        self._new += sum(new)

    def _replace_snapshot(self, schema: Schema, views: tuple[View, ...], end: datetime) -> None:
        """Write the snapshot as of `end`, the newest row, or where the store ended: the newer of both limits."""
        features = ROOT / FEATURES
        as_of = max(self._end or BEGINNING, min(end, newest_timestamp(views, features)))
        write_snapshot(schema, views, features=features, as_of=as_of, path=_snapshot())


def _is_news(row: Row, held_at: datetime | None, held: dict[str, Any] | None) -> bool:
    """Whether `row` is newer than what the store holds of its entity, or has other values of the same timestamp."""
    _, values, timestamp, _ = row
    age = None if held_at is None else make_tzaware(timestamp) - make_tzaware(held_at)
    return age is None or age.total_seconds() > 0 or (age.total_seconds() == 0 and values != held)


@contextmanager
def _only_writer() -> Iterator[None]:
    """Hold the lock of the store; a refresh at work, or a store out of reach, ends Feast's command with a message."""
    try:
        with exclusive_access(_online()):
            yield
    except (StoreUnavailableError, ParameterError) as error:
        raise click.ClickException(str(error)) from None


def _online() -> Path:
    return ROOT / read_settings().online_store


def _snapshot() -> Path:
    return item_snapshot_path(_online())


def _end_of_store(schema: Schema, views: tuple[View, ...]) -> datetime:
    """Up to when the store is materialized, as its item snapshot says; from the beginning, where there is none."""
    try:
        return verify_snapshot(_snapshot(), schema, views)
    except SnapshotError:
        return BEGINNING
