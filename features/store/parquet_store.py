"""An offline store of Feast that reads each view's Parquet file as it is: any path, any names of columns.

Feast's own DuckDB store takes `*`, `?` and `[` in a path for a pattern and folders such as `price=3` for columns, whose
values hide those of the file. feature_store.yaml names this store instead; the joins are Feast's.
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
from feast.infra.offline_stores.ibis import get_historical_features_ibis, pull_latest_from_table_or_query_ibis
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from features.engine.sql import as_pattern
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
        """The features of each row of `entity_df` as of its timestamp; the arguments are Feast's."""
        assert entity_df is not None  # Feast's signature allows it for other stores
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
            filter_by_created_timestamp=filter_by_created_timestamp,
        )


def _read(source: DataSource, _: str) -> Any:
    """The table of a Parquet file, its columns under their names in Feast."""
    assert isinstance(source, FileSource)
    warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)  # ibis's own, when it reads the table
    table = ibis.read_parquet(as_pattern(Path(source.path)), hive_partitioning=False)
    return table.rename({feast_name(name): name for name in table.columns if name != source.timestamp_field})


def _refuse(*_: Any) -> None:
    raise NotImplementedError("the offline store is written by the stage `aggregate`, not by Feast")
