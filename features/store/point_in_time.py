"""The point-in-time join: each impression with the features as of its timestamp, by Feast.

Each impression gets the newest row of each view whose event_timestamp is not later than the impression. Impressions are
joined in batches, so memory does not grow with the log. Every row that goes in must come out.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore
from tqdm import tqdm

from common.errors import JoinError
from common.params import Join
from features.engine.arrow_types import arrow_schema
from features.schema import EVENT_TIMESTAMP, SPLITS, Schema, View
from features.store.definitions import SERVICE, open_store
from features.store.feast_names import feast_name
from features.store.ibis_backend import set_ibis_backend
from features.store.splits import assign_splits

BATCH_ROWS = 50_000  # Feast compares an impression with every row of its entities: memory is rows x rows of the view


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
        set_ibis_backend(Path(scratch))
        # Feast requires a registry and an online store even where only the offline store is read.
        online, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
        store = open_store(schema, views, features=features, online=online, registry=registry)
        split_of = assign_splits(events, schema, settings)
        types = arrow_schema((*schema.events, *(column for view in views for column in view.columns)))
        written = dict.fromkeys(SPLITS, 0)
        with ExitStack() as stack:
            writers = [stack.enter_context(pq.ParquetWriter(out / f"{name}.parquet", types)) for name in SPLITS]
            for impressions in _batches(events, schema):
                joined = join_features(store, schema, views, impressions)
                codes = split_of(joined)
                for code, name in enumerate(SPLITS):
                    rows = joined.filter(pa.array(codes == code))
                    writers[code].write_table(rows)
                    written[name] += rows.num_rows
    return written


def join_features(store: FeatureStore, schema: Schema, views: tuple[View, ...], impressions: pa.Table) -> pa.Table:
    """`impressions` and every feature of `views` as of their timestamp, in the order of their event ids.

    Raises JoinError when rows are missing, doubled or exchanged.
    """
    entities = _entities(schema, views, impressions)
    service, event_id = store.get_feature_service(SERVICE), feast_name(schema.event_id)
    joined = store.get_historical_features(entities, service).to_arrow().sort_by(event_id)
    impressions = impressions.take(pc.sort_indices(impressions[schema.event_id]))
    if not joined[event_id].combine_chunks().equals(impressions[schema.event_id].combine_chunks()):
        raise JoinError(
            f"the point-in-time join got {impressions.num_rows:,} impressions and gave back {joined.num_rows:,} "
            f"({pc.count_distinct(joined[event_id]).as_py():,} distinct event ids): the store doubles or drops "
            "rows. Look for two rows of one entity with the same event_timestamp in the features, and keep "
            "the `offline_store` of features/store/feature_store.yaml."
        )
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


def _batches(events: Path, schema: Schema) -> Iterator[pa.Table]:
    """The impressions in order of time, at least BATCH_ROWS at a time (the last batch: what is left)."""
    types = arrow_schema(schema.events)
    files = sorted(events.glob("*/*.parquet"))
    pending: list[pa.Table] = []
    for file in tqdm(files, desc="join", unit="day", mininterval=1):
        pending.append(pq.read_table(file, schema=types, partitioning=None))
        if sum(table.num_rows for table in pending) >= BATCH_ROWS:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)
