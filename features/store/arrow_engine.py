"""A batch engine of Feast that writes Arrow tables to the online store value by value, exactly.

Feast's own local engine converts each column with `to_numpy`, in which an integer column with a missing value is
float64: ids above 2^53 are rounded. The pipeline uses this engine instead, Feast's commands one that is made of it
(features/store/in_use.py).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Int64List, StringList, Value
from feast.repo_config import FeastConfigBaseModel
from feast.value_type import ValueType

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]  # as Feast's online stores take it
_VALUES: dict[ValueType, Callable[[Any], Value]] = {
    ValueType.INT64: lambda value: Value(int64_val=value),
    ValueType.FLOAT: lambda value: Value() if value != value else Value(float_val=value),  # NaN is a missing value
    ValueType.STRING: lambda value: Value(string_val=value),
    ValueType.INT64_LIST: lambda value: Value(int64_list_val=Int64List(val=value)),
    ValueType.STRING_LIST: lambda value: Value(string_list_val=StringList(val=value)),
    ValueType.FLOAT_LIST: lambda value: Value(float_list_val=FloatList(val=value)),
}


class ArrowEngineConfig(FeastConfigBaseModel):
    """The settings of the engine: its type."""

    type: Literal["features.store.arrow_engine.ArrowEngine"] = "features.store.arrow_engine.ArrowEngine"


class ArrowEngine(LocalComputeEngine):
    """Writes the newest row of each entity of a view to the online store, in batches of Feast's setting."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view, settings = task.feature_view, self.repo_config
        types = {field.name: field.dtype.to_value_type() for field in (*view.features, *view.entity_columns)}
        keys = [field.name for field in view.entity_columns]
        source = view.batch_source
        assert source is not None  # every view of definitions.py has one
        rows = self.offline_store.pull_latest_from_table_or_query(
            config=settings,
            data_source=source,
            join_key_columns=keys,
            feature_name_columns=[field.name for field in view.features],
            timestamp_field=source.timestamp_field,
            created_timestamp_column=None,
            start_date=task.start_time,
            end_date=task.end_time,
        ).to_arrow()
        order = [
            (source.timestamp_field, "descending"),
            *((key, "ascending") for key in keys),
        ]  # the same file each time
        for batch in rows.sort_by(order).to_batches(
            max_chunksize=settings.materialization_config.online_write_batch_size
        ):
            self._write(view, to_rows(batch, keys, types, source.timestamp_field))
        name = f"{view.name}-{task.start_time}-{task.end_time}"
        return LocalMaterializationJob(job_id=name, status=MaterializationJobStatus.SUCCEEDED)

    def _write(self, view: FeatureView, rows: list[Row]) -> None:
        self.online_store.online_write_batch(self.repo_config, view, rows, lambda _: None)


def to_rows(batch: pa.RecordBatch, keys: list[str], types: dict[str, ValueType], timestamp: str) -> list[Row]:
    """The rows of a batch as online stores take them: join keys, values by feature, timestamp.

    Args:
        batch: Columns of the types that the view declares.
        keys: Names of the join keys.
        types: Feast's type of each key and feature.
        timestamp: Name of the column with the timestamps.
    """
    values = {name: _values(batch.column(name), kind) for name, kind in types.items()}
    entities = [EntityKey(join_keys=keys, entity_values=ids) for ids in zip(*map(values.pop, keys), strict=True)]
    features = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return [
        (*row, when, None) for *row, when in zip(entities, features, batch.column(timestamp).to_pylist(), strict=True)
    ]


def _values(column: pa.Array, kind: ValueType) -> list[Value]:
    convert, missing = _VALUES[kind], Value()
    return [missing if value is None else convert(value) for value in column.to_pylist()]
