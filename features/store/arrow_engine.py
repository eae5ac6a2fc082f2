"""A batch engine of Feast that writes Arrow tables to the online store, every value exactly and a column at a time.

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

from features.store.bulk_writes import write_batch
from features.store.value_encoding import key_order

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
        source = view.batch_source
        assert source is not None  # every view of definitions.py has one
        rows = self.offline_store.pull_latest_from_table_or_query(
            config=settings,
            data_source=source,
            join_key_columns=[field.name for field in view.entity_columns],
            feature_name_columns=[field.name for field in view.features],
            timestamp_field=source.timestamp_field,
            created_timestamp_column=None,
            start_date=task.start_time,
            end_date=task.end_time,
        ).to_arrow()
        order = self._order(view, rows.combine_chunks())
        size = settings.materialization_config.online_write_batch_size or len(order)
        for start in range(0, len(order), size):
            (batch,) = rows.take(order.slice(start, size)).combine_chunks().to_batches()
            self._write(view, batch)
        name = f"{view.name}-{task.start_time}-{task.end_time}"
        return LocalMaterializationJob(job_id=name, status=MaterializationJobStatus.SUCCEEDED)

    def _order(self, view: FeatureView, rows: pa.Table) -> pa.Array:
        """The order in which `rows` are written: that of their keys in the store, whose index then grows at its end."""
        keys = {field.name: rows[field.name] for field in view.entity_columns}
        return key_order({name: column.combine_chunks() for name, column in keys.items()})

    def _write(self, view: FeatureView, batch: pa.RecordBatch) -> None:
        write_batch(self.online_store, self.repo_config, view, batch)


def to_rows(view: FeatureView, batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch of `view` as online stores take and give them: join keys, values by feature, timestamp."""
    assert view.batch_source is not None  # every view of definitions.py has one
    keys = [field.name for field in view.entity_columns]
    types = {field.name: field.dtype.to_value_type() for field in (*view.features, *view.entity_columns)}
    values = {name: to_values(batch.column(name), kind) for name, kind in types.items()}
    entities = [EntityKey(join_keys=keys, entity_values=ids) for ids in zip(*map(values.pop, keys), strict=True)]
    features = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    timestamps = batch.column(view.batch_source.timestamp_field).to_pylist()
    return [(*row, when, None) for *row, when in zip(entities, features, timestamps, strict=True)]


def to_values(column: pa.Array, kind: ValueType) -> list[Value]:
    """The message of each value; a null, and a NaN that is no part of a list, is one without a value."""
    convert, missing = _VALUES[kind], Value()
    return [missing if value is None else convert(value) for value in column.to_pylist()]
