"""An offline store of Feast that reads each view's Parquet file as it is: any path, any names of columns.

Feast's own DuckDB store takes `*`, `?` and `[` in a path for a pattern and folders such as `price=3` for columns, whose
values hide those of the file. feature_store.yaml names this store instead. Its point-in-time join is an as-of join
(features/store/asof_join.py) with the results of Feast's, at a fraction of the work.
"""

import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
from feast import FeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.ibis import (
    IbisRetrievalJob,
    get_historical_features_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from ibis.expr.types import Table

from features.engine import sql
from features.schema import EVENT_TIMESTAMP
from features.store.asof_join import ViewRows, asof_join
from features.store.feast_names import feast_name


class ParquetOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The settings of the store in feature_store.yaml: its type."""

    type: str = "features.store.parquet_store.ParquetOfflineStore"


class ParquetOfflineStore(DuckDBOfflineStore):
    """Feast's DuckDB store with another reader of its files; columns have their names in Feast."""

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each entity; the arguments are Feast's."""
        return pull_latest_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_read,
            data_source_writer=_refuse,
        )

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """The features of each row of `entity_df` as of its timestamp; the arguments are Feast's.

        `entity_df` may also be a query in DuckDB's dialect, with the column `event_timestamp`: its rows never become a
        data frame. Feast's own join answers where rows must be left out by their creation: the newest row up to a
        timestamp is another one for every creation.
        """
        assert entity_df is not None  # Feast's signature allows it for other stores
        if filter_by_created_timestamp:
            return get_historical_features_ibis(
                config=config,
                feature_views=feature_views,
                feature_refs=feature_refs,
                entity_df=entity_df,
                registry=registry,
                project=project,
                full_feature_names=full_feature_names,
                data_source_reader=_read,
                data_source_writer=_refuse,
                filter_by_created_timestamp=True,
            )
        rows, timestamp = _entity_rows(entity_df)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        views = [_view_rows(view, feature_refs, full_names=full_feature_names) for view in feature_views]
        joined = asof_join(rows, views, timestamp)
        for view in on_demand:
            joined = view.transform_ibis(joined, full_feature_names) if view.mode == "substrait" else joined
        return IbisRetrievalJob(
            joined,
            [view for view in on_demand if view.mode != "substrait"],
            full_feature_names,
            data_source_writer=_refuse,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
            metadata=_metadata(feature_refs, entity_df, timestamp),
        )


def _entity_rows(entities: pd.DataFrame | str) -> tuple[Table, str]:
    """The rows that are joined, and the name of their timestamp; a text that is no timestamp yet becomes one."""
    _ignore_deprecations()
    if isinstance(entities, str):
        return ibis.get_backend().sql(entities), EVENT_TIMESTAMP
    timestamp = infer_event_timestamp_from_entity_df({str(name): kind for name, kind in entities.dtypes.items()})
    if not pd.api.types.is_datetime64_any_dtype(entities[timestamp]):
        entities = entities.assign(**{timestamp: pd.to_datetime(entities[timestamp], utc=True)})
    return ibis.memtable(entities), timestamp


def _view_rows(view: FeatureView, references: list[str], *, full_names: bool) -> ViewRows:
    """The rows of a view with the features that `references` name (`view:feature`), as Feast's own store has them."""
    source = view.batch_source
    assert source is not None  # every view of definitions.py has one
    table = _read(source, "")
    table = table.rename({new: old for old, new in source.field_mapping.items() if old in table.columns})
    view_name = view.projection.name_to_use()  # type: ignore[no-untyped-call]  # Feast declares no types here
    requested = [name.split(":")[1] for name in references if name.startswith(f"{view_name}:")]
    prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
    return ViewRows(
        table=table,
        keys=view.projection.join_key_map or {entity.name: entity.name for entity in view.entity_columns},
        features={prefix + name: name for name in requested},
        timestamp=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=view.ttl,
    )


def _metadata(references: list[str], entities: pd.DataFrame | str, timestamp: str) -> RetrievalMetadata:
    """What Feast records of a retrieval; the first and last timestamp of a data frame, which are at hand."""
    if isinstance(entities, str):
        return RetrievalMetadata(features=references, keys=[])
    times = pd.to_datetime(entities[timestamp], utc=True)
    keys = [name for name in entities.columns if name != timestamp]
    return RetrievalMetadata(
        features=references, keys=keys, min_event_timestamp=times.min(), max_event_timestamp=times.max()
    )


def read_table(path: Path, timestamp: str = EVENT_TIMESTAMP) -> Table:
    """The table of a Parquet file, its columns but the timestamp of a view's row under their names in Feast."""
    _ignore_deprecations()
    table = ibis.get_backend().sql(f"select * from {sql.parquet(path)}")  # its read_parquet would load httpfs for a URL
    return table.rename({feast_name(name): name for name in table.columns if name != timestamp})


def _read(source: DataSource, _: str) -> Any:
    assert isinstance(source, FileSource)
    return read_table(Path(source.path), source.timestamp_field)


def _ignore_deprecations() -> None:
    """Ignore the warnings of DuckDB at what ibis itself calls when it reads a result."""
    warnings.filterwarnings("ignore", "fetch_(arrow_table|record_batch)", DeprecationWarning)


def _refuse(*_: Any) -> None:
    raise NotImplementedError("the offline store is written by the stage `aggregate`, not by Feast")
