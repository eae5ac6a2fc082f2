"""The point-in-time join: each impression with the features as of its timestamp, by Feast.

Each impression gets the newest row of each view whose event_timestamp is not later than the impression. One statement
joins the whole log (features/store/asof_join.py), and its result is read in blocks of rows: memory grows neither with
the log nor with its busiest day. Every row that goes in must come out.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from tqdm import tqdm

from common.errors import JoinError
from common.params import Join
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.blocks import blocks
from features.schema import EVENT_TIMESTAMP, SPLITS, Schema, View
from features.store.definitions import SERVICE, open_store
from features.store.feast_names import feast_name
from features.store.ibis_backend import set_ibis_backend
from features.store.splits import assign_splits

BATCH_ROWS = 50_000  # of a row group, before the split
MEMORY_SHARE = 3 / 4  # of DuckDB, while it joins and sorts: it takes more than its limit for the last blocks


def write_training_set(
    schema: Schema, views: tuple[View, ...], settings: Join, *, events: Path, features: Path, out: Path
) -> dict[str, int]:
    """Write train.parquet, valid.parquet and test.parquet under `out`; returns the number of rows of each.

    Args:
        schema: Declaration of the data set.
        views: Feature views to join.
        settings: How the impressions are split.
        events: Folder of the validated events, one folder per day.
        features: Folder of the views' Parquet files.
        out: Folder that is written.

    Raises JoinError where the join loses or doubles a row.
    """
    out.mkdir(parents=True)
    with TemporaryDirectory() as scratch:
        set_ibis_backend(Path(scratch), share=MEMORY_SHARE)
        # Feast requires a registry and an online store even where only the offline store is read.
        online, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
        store = open_store(schema, views, features=features, online=online, registry=registry, reads=True)
        split_of = assign_splits(events, schema, settings)
        types = arrow_schema((*schema.events, *(column for view in views for column in view.columns)))
        written = dict.fromkeys(SPLITS, 0)
        with ExitStack() as stack:
            writers = [stack.enter_context(pq.ParquetWriter(out / f"{name}.parquet", types)) for name in SPLITS]
            for joined in _join_log(store, schema, types, events):
                codes = split_of(joined)
                for code, name in enumerate(SPLITS):
                    rows = joined.filter(pa.array(codes == code))
                    if rows.num_rows:
                        writers[code].write_table(rows)
                    written[name] += rows.num_rows
    return written


def _join_log(store: FeatureStore, schema: Schema, types: pa.Schema, events: Path) -> Iterator[pa.Table]:
    """The impressions under `events` with their features, in the order of their event ids, BATCH_ROWS at a time.

    The log is one query, no part of it is ever a data frame, and DuckDB sorts on disk what exceeds its memory. Raises
    JoinError when rows are missing or doubled.
    """
    job = store.get_historical_features(_log_query(schema, events), store.get_feature_service(SERVICE))
    assert isinstance(job, IbisRetrievalJob)  # of the store in feature_store.yaml
    ordered = job.table.order_by(feast_name(schema.event_id))
    names = [feast_name(name) for name in types.names]
    expected = sum(pq.read_metadata(file).num_rows for file in events.glob("*/*.parquet"))
    rows = doubled = last = 0
    with tqdm(desc="join", unit=" rows", unit_scale=True, total=expected, mininterval=1) as bar:
        for block in blocks(ordered.to_pyarrow_batches(chunk_size=BATCH_ROWS), BATCH_ROWS):
            ids = block[feast_name(schema.event_id)].to_numpy()
            doubled += int((np.diff(ids) == 0).sum()) + bool(rows and ids[0] == last)
            rows, last = rows + len(ids), ids[-1]
            yield block.select(names).rename_columns(types.names).cast(types)
            bar.update(len(ids))
    if doubled or rows != expected:
        raise _lost(expected, rows, rows - doubled)


def _log_query(schema: Schema, events: Path) -> str:
    """SQL: the impressions, under the names by which Feast knows the columns."""
    columns = ", ".join(
        f"{sql.column(column.name)} as {sql.column(feast_name(column.name))}" for column in schema.events
    )
    timestamp, log = sql.column(schema.timestamp), sql.parquet(events, "*/*.parquet")
    return f"select {columns}, {timestamp} as {EVENT_TIMESTAMP} from {log}"


def join_features(store: FeatureStore, schema: Schema, views: tuple[View, ...], impressions: pa.Table) -> pa.Table:
    """`impressions` and every feature of `views` as of their timestamp, in the order of their event ids.

    Raises JoinError when rows are missing, doubled or exchanged.
    """
    entities = _entities(schema, views, impressions)
    service, event_id = store.get_feature_service(SERVICE), feast_name(schema.event_id)
    joined = store.get_historical_features(entities, service).to_arrow().sort_by(event_id)
    impressions = impressions.take(pc.sort_indices(impressions[schema.event_id]))
    if not joined[event_id].combine_chunks().equals(impressions[schema.event_id].combine_chunks()):
        raise _lost(impressions.num_rows, joined.num_rows, pc.count_distinct(joined[event_id]).as_py())
    features = tuple(column for view in views for column in view.columns)
    columns = [impressions[column.name] for column in schema.events] + [
        joined[feast_name(column.name)] for column in features
    ]
    types = arrow_schema((*schema.events, *features))
    return pa.table(columns, names=types.names).cast(types)


def _entities(schema: Schema, views: tuple[View, ...], impressions: pa.Table) -> pd.DataFrame:
    """What Feast needs of the impressions: ids, join keys and timestamps, none of which is ever missing.

    The other columns never become pandas columns, in which a missing value would turn integers into floats.
    """
    keys = dict.fromkeys((schema.event_id, *(key for view in views for key in view.keys)))
    columns = {feast_name(name): impressions[name] for name in keys} | {EVENT_TIMESTAMP: impressions[schema.timestamp]}
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    return frame


def _lost(given: int, returned: int, distinct: int) -> JoinError:
    return JoinError(
        f"the point-in-time join got {given:,} impressions and gave back {returned:,} ({distinct:,} distinct event "
        "ids): the store doubles or drops rows. Look for two impressions with the same event id, and keep the "
        "`offline_store` of features/store/feature_store.yaml."
    )
