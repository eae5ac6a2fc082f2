"""Feast's registry: which entities, views and services there are, and up to when each view is materialized.

It is a catalogue for Feast's commands, its servers and colleagues. The pipeline and the service never ask it what to
read: they define the views from the files that they were made with. The stage `materialize` writes a registry beside
its store; with HINET_FEAST_REGISTRY, `features.refresh` keeps one up in a database that a team shares.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from feast import Entity, FeatureService, FeatureStore, FeatureView, Project
from feast.diff.registry_diff import apply_diff_to_registry
from feast.feature_view import DUMMY_ENTITY
from feast.repo_contents import RepoContents
from sqlalchemy.exc import ArgumentError, OperationalError

from common.errors import ParameterError, SnapshotError
from common.settings import variable
from common.yaml_file import read_yaml
from features.schema import Schema, View
from features.store.definitions import Definition, configured_store, definitions
from features.store.incremental import BEGINNING
from features.store.item_snapshot import item_snapshot_path, verify_snapshot

_DATABASE = Path(__file__).parent / "feature_store.postgres.yaml"


class RegistryUnavailableError(Exception):
    """The database of the registry does not answer now; the same command may succeed later."""


def register(store: FeatureStore, defined: Iterable[Definition]) -> None:
    """Make the registry of `store` hold just what is defined, as `feast apply` would; touch no online store."""
    objects = list(defined)
    views = [one for one in objects if isinstance(one, FeatureView)]
    contents = RepoContents(
        projects=[Project(name=store.project)],
        data_sources=[source for view in views for source in (view.batch_source, view.stream_source) if source],
        feature_views=views,
        on_demand_feature_views=[],
        stream_feature_views=[],
        label_views=[],
        entities=[*(one for one in objects if isinstance(one, Entity)), DUMMY_ENTITY],
        feature_services=[one for one in objects if isinstance(one, FeatureService)],
        permissions=[],
    )
    difference, *_ = store.plan(contents)
    apply_diff_to_registry(store.registry, difference, store.project)


def register_in_database(
    address: str,
    schema: Schema,
    views: tuple[View, ...],
    *,
    features: Path,
    online: Path,
    redis: str | None,
    as_of: datetime,
) -> None:
    """Register the views in the database of HINET_FEAST_REGISTRY, as materialized up to `as_of`.

    Args:
        address: The database, as SQLAlchemy has it: `postgresql+psycopg://user:password@host/database`.
        schema: Declaration of the data set.
        views: Feature views to define.
        features: Folder of the views' Parquet files.
        online: SQLite file of the online store.
        redis: The Redis that is the online store instead.
        as_of: Up to when the online store is materialized.

    Raises RegistryUnavailableError where the database does not answer, ParameterError where it never can.
    """
    settings = read_yaml(_DATABASE)["registry"] | {"path": address}
    with _named_database():
        store = configured_store(settings, online=online, redis=redis)
        try:
            register(store, _materialized(definitions(schema, views, features), {}, as_of))
        finally:
            store.registry.write_engine.dispose()  # type: ignore[attr-defined]  # Feast leaves its connections open


@contextmanager
def _named_database() -> Iterator[None]:
    """Errors of the database that name the variable, and neither password nor SQL."""
    name = variable("feast_registry")
    try:
        yield
    except OperationalError as error:
        raise RegistryUnavailableError(f"the database of {name}: {error.orig}") from error
    except ModuleNotFoundError as error:
        raise ParameterError(
            f"{name}: the driver {error.name} is not installed. For PostgreSQL: "
            "`pip install --constraint constraints.txt --editable '.[postgres]'`"
        ) from error
    except ArgumentError:
        raise ParameterError(
            f"{name}: expected an address such as postgresql+psycopg://user:password@host/database, found another form"
        ) from None


def as_registered(
    store: FeatureStore, schema: Schema, views: tuple[View, ...], *, features: Path, online: Path
) -> Iterator[Definition]:
    """The definitions, each view with what the registry of `store` says of its materialization.

    Feast takes a view that is materialized and one that is not for different ones: `feast plan` would always find a
    change. A view that the registry does not know has the timestamp of the online store `online`, if there is one.
    """
    known = {view.name: view.materialization_intervals for view in store.list_feature_views()}
    try:
        as_of = verify_snapshot(item_snapshot_path(online), schema, views)
    except SnapshotError:
        as_of = None
    return _materialized(definitions(schema, views, features), known, as_of)


def _materialized(
    defined: Iterable[Definition], known: dict[str, list[tuple[datetime, datetime]]], as_of: datetime | None
) -> Iterator[Definition]:
    first = [] if as_of is None else [(BEGINNING, as_of)]
    for one in defined:
        if isinstance(one, FeatureView):
            one.materialization_intervals = known.get(one.name, first)
        yield one
