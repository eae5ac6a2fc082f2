"""The definitions of the Feast repository, from the schema and its views: entities, feature views, feature service."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast import FeatureStore as FeatureStore  # the type of an opened store, for packages that do not import feast
from feast.repo_config import RepoConfig
from feast.types import Array, FeastType, Float32, Int64, String

from common.yaml_file import read_yaml
from features.engine.session_view import stored_view
from features.schema import EVENT_TIMESTAMP, Column, DType, Schema, View
from features.store.feast_names import feast_name
from features.store.online_settings import ENGINE, online_settings
from features.store.sqlite_timestamps import set_utc_timestamps

Definition = Entity | FeatureView | FeatureService

SERVICE = "ranking"  # all features but the newest events of users, which are no features yet
PUSHED = "events"  # the source through which the newest events are pushed
_TYPES: dict[DType, FeastType] = {
    DType.INT64: Int64,
    DType.FLOAT32: Float32,
    DType.STRING: String,
    DType.INT64_LIST: Array(Int64),
    DType.STRING_LIST: Array(String),
    DType.FLOAT32_LIST: Array(Float32),
}
VALUE_TYPES = tuple(kind.to_value_type() for kind in _TYPES.values())  # of features in Feast
_KEY_TYPES = {DType.INT64: ValueType.INT64, DType.STRING: ValueType.STRING}


def open_store(
    schema: Schema,
    views: tuple[View, ...],
    *,
    features: Path,
    online: Path,
    registry: Path,
    redis: str | None = None,
    reads: bool = False,
    project: str | None = None,
) -> FeatureStore:
    """A feature store with the settings of feature_store.yaml and everything that the views define applied to it.

    Args:
        schema: Declaration of the data set.
        views: Feature views to define.
        features: Folder of the views' Parquet files (the offline store).
        online: SQLite file of the online store.
        registry: File of Feast's definitions; not an artefact, since its bytes change whenever it is written.
        redis: `host:port` and more, as Feast has it, of the Redis that is the online store instead of SQLite.
        reads: Whether the store is only read; then no online store is touched here. Feast would create its tables and
            wait for a process that holds the file.
        project: Another project of Feast than that of feature_store.yaml, whose rows are apart in one Redis.
    """
    registry.parent.mkdir(parents=True, exist_ok=True)
    store = configured_store(str(registry.absolute()), online=online, redis=redis, project=project)
    if reads:
        _register(store, definitions(schema, views, features))
    else:
        store.apply(list(definitions(schema, views, features)))
    return store


def configured_store(
    registry: str | dict[str, Any], *, online: Path, redis: str | None, project: str | None = None
) -> FeatureStore:
    """A feature store with the settings of feature_store.yaml, and nothing applied to it.

    Args:
        registry: Path of a file, or Feast's settings of another registry.
        online: SQLite file of the online store.
        redis: As `open_store` has it.
        project: As `open_store` has it.
    """
    set_utc_timestamps()
    settings = read_yaml(Path(__file__).parent / "feature_store.yaml")
    settings["registry"] = registry
    settings["project"] = project or settings["project"]
    settings["online_store"] = online_settings(online, redis)
    settings["batch_engine"] = {"type": ENGINE}
    return FeatureStore(config=RepoConfig(**settings, repo_path=online.absolute().parent))


def _register(store: FeatureStore, defined: Iterable[Definition]) -> None:
    """Write definitions to Feast's registry only."""
    for one in defined:
        if isinstance(one, Entity):
            store.registry.apply_entity(one, store.project, commit=False)
        elif isinstance(one, FeatureView):
            store.registry.apply_feature_view(one, store.project, commit=False)
        else:
            store.registry.apply_feature_service(one, store.project, commit=False)
    store.registry.commit()  # type: ignore[no-untyped-call]  # Feast declares no types here


def definitions(schema: Schema, views: tuple[View, ...], features: Path) -> Iterator[Definition]:
    """The definitions: one entity per join key, one feature view per view, a service for all but those of sessions."""
    entities = {key.name: _entity(key) for key in _keys(schema, views)}
    yield from entities.values()
    defined = {view: _feature_view(schema, view, [entities[key] for key in view.keys], features) for view in views}
    yield from defined.values()
    daily = [one for view, one in defined.items() if view.session is None]
    yield FeatureService(name=SERVICE, features=[*daily], description=f"all features of {schema.name}")


def _keys(schema: Schema, views: tuple[View, ...]) -> tuple[Column, ...]:
    names = {key for view in views for key in view.keys}
    return tuple(column for column in schema.events if column.name in names)


def _entity(key: Column) -> Entity:
    name = feast_name(key.name)
    return Entity(name=name, join_keys=[name], value_type=_KEY_TYPES[key.dtype], description=key.desc)


def _feature_view(schema: Schema, view: View, entities: list[Entity], features: Path) -> FeatureView:
    """A view without TTL: its rows are written when something changes, so values are valid until the next row.

    The newest events of users are also written as they become known, by FeatureStore.push.
    """
    keys = [Field(name=e.join_key, dtype=_key_field(e)) for e in entities]
    table = FileSource(
        name=view.name,
        path=str((features / f"{view.name}.parquet").absolute()),
        timestamp_field=EVENT_TIMESTAMP,
    )
    return FeatureView(
        name=view.name,
        entities=entities,
        ttl=timedelta(0),
        schema=keys + [_field(column) for column in stored_view(schema, view).columns],
        source=PushSource(name=PUSHED, batch_source=table) if view.session else table,
    )


def _field(column: Column) -> Field:
    return Field(name=feast_name(column.name), dtype=_TYPES[column.dtype], description=column.desc)


def _key_field(entity: Entity) -> FeastType:
    return Int64 if entity.value_type is ValueType.INT64 else String
