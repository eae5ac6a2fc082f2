"""The point-in-time join: each impression with the features as of its timestamp, by Feast.

Each impression gets the newest row of each view whose event_timestamp is not later than the impression. One statement
joins a part of the log (features/store/asof_join.py), and its result is read in blocks of rows: neither memory nor what
DuckDB spills grows with the log or with its busiest day. Every row that goes in must come out.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore, FileSource
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from ibis.expr.types import Table

from common.errors import JoinError
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.engine.session_view import stored_view
from features.schema import EVENT_TIMESTAMP, Schema, View
from features.session.events import from_lists
from features.session.features import impression_features
from features.session.item_values import ItemValues, read_item_values
from features.session.states import to_states
from features.store.definitions import SERVICE, open_store
from features.store.feast_names import feast_name
from features.store.ibis_backend import set_ibis_backend
from features.store.parquet_store import read_table

BATCH_ROWS = 50_000  # of a row group, before the split
STATEMENT_ROWS = 25_000_000  # impressions of a statement: DuckDB spills up to 1.4 kB of each, and reads all views
MEMORY_SHARE = 3 / 4  # of DuckDB, while it joins and sorts: it takes more than its limit for the last blocks


@contextmanager
def feast_join(
    schema: Schema, views: tuple[View, ...], *, events: Path, features: Path, sessions: Collection[Path] = ()
) -> Iterator[Iterable[pa.RecordBatch]]:
    """The impressions under `events` with their features, in the order of their event ids, columns as declared.

    The files `sessions` hold the columns of session views by event id. Parts of the log are queries, none is ever a
    data frame, and DuckDB sorts on disk what exceeds its memory.
    """
    with TemporaryDirectory() as scratch:
        set_ibis_backend(Path(scratch), share=MEMORY_SHARE)
        # Feast requires a registry and an online store even where only the offline store is read.
        online, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
        store = open_store(schema, views, features=features, online=online, registry=registry, reads=True)
        parts = [_join_query(store, schema, views, query, sessions) for query in _log_queries(schema, events)]
        yield chain.from_iterable(part.to_pyarrow_batches(chunk_size=BATCH_ROWS) for part in parts)


def _join_query(
    store: FeatureStore, schema: Schema, views: tuple[View, ...], impressions: str, sessions: Collection[Path]
) -> Table:
    """The impressions of a query with their features, in the order of their event ids."""
    job = store.get_historical_features(impressions, store.get_feature_service(SERVICE))
    assert isinstance(job, IbisRetrievalJob)  # of the store in feature_store.yaml
    columns = (*schema.events, *(column for view in views for column in view.columns))
    joined, event_id = job.table, feast_name(schema.event_id)
    for path in sessions:
        joined = joined.left_join(read_table(path), event_id)
    return joined.order_by(event_id)[[feast_name(column.name) for column in columns]]


def _log_queries(schema: Schema, events: Path) -> list[str]:
    """SQL: the impressions in parts of some STATEMENT_ROWS, one after the other by event id, columns as Feast's."""
    columns = ", ".join(
        f"{sql.column(column.name)} as {sql.column(feast_name(column.name))}" for column in schema.events
    )
    timestamp, log = sql.column(schema.timestamp), sql.parquet(events, "*/*.parquet")
    query = f"select {columns}, {timestamp} as {EVENT_TIMESTAMP} from {log}"
    return [f"{query} where {within}" for within in _parts(sql.column(schema.event_id), log)]


def _parts(event_id: str, log: str) -> list[str]:
    """Conditions of which each event id meets one."""
    with connect() as connection:
        (rows,) = connection.execute(f"select count(*) from {log}").fetchone() or (0,)
        shares = [first / rows for first in range(STATEMENT_ROWS, rows, STATEMENT_ROWS)]
        if not shares:
            return ["true"]
        (cuts,) = connection.execute(f"select approx_quantile({event_id}, {shares}) from {log}").fetchone() or ([],)
    between = [f"{event_id} > {last} and {event_id} <= {cut}" for last, cut in pairwise(cuts)]
    return [f"{event_id} <= {cuts[0]}", *between, f"{event_id} > {cuts[-1]}"]


def join_features(store: FeatureStore, schema: Schema, views: tuple[View, ...], impressions: pa.Table) -> pa.Table:
    """`impressions` and every feature of `views` as of their timestamp, in the order of their event ids.

    Raises JoinError when rows are missing, doubled or exchanged.
    """
    entities = _entities(schema, views, impressions)
    service, event_id = store.get_feature_service(SERVICE), feast_name(schema.event_id)
    joined = store.get_historical_features(entities, service).to_arrow().sort_by(event_id)
    impressions = impressions.take(pc.sort_indices(impressions[schema.event_id]))
    if not joined[event_id].combine_chunks().equals(impressions[schema.event_id].combine_chunks()):
        raise lost(impressions.num_rows, joined.num_rows, pc.count_distinct(joined[event_id]).as_py())
    features = tuple(column for view in views for column in view.columns)
    columns = {column.name: impressions[column.name] for column in schema.events}
    for view in views:
        if view.session is None:
            columns |= {column.name: joined[feast_name(column.name)] for column in view.columns}
        else:
            values = _item_values(store, schema, view, views)
            columns |= _join_session(store, schema, view, entities, impressions, values)
    types = arrow_schema((*schema.events, *features))
    return pa.table(columns).cast(types)


def _join_session(
    store: FeatureStore,
    schema: Schema,
    view: View,
    entities: pd.DataFrame,
    impressions: pa.Table,
    values: ItemValues,
) -> dict[str, pa.Array]:
    """The features of a session view, from the newest events that the offline store has as of each impression."""
    stored = stored_view(schema, view).columns
    references = [f"{view.name}:{column.name}" for column in stored]
    job = store.get_historical_features(entities, references)
    rows = job.to_arrow().sort_by(feast_name(schema.event_id))
    lists = {column.name: rows[column.name].combine_chunks() for column in stored}
    at = impressions[schema.timestamp].cast(pa.int64()).to_numpy()
    states = to_states(from_lists(lists, np.arange(len(at)), schema), len(at))
    return impression_features(schema, view, states, at, impressions[schema.item].to_numpy(), values)


def _item_values(store: FeatureStore, schema: Schema, view: View, views: tuple[View, ...]) -> ItemValues:
    """What the session view compares, from the files of the offline store."""
    table = store.get_feature_view(view.name).batch_source
    assert isinstance(table, FileSource)  # of the definitions
    return read_item_values(schema, view, views, Path(table.path).parent)


def _entities(schema: Schema, views: tuple[View, ...], impressions: pa.Table) -> pd.DataFrame:
    """What Feast needs of the impressions: ids, join keys and timestamps, none of which is ever missing.

    The other columns never become pandas columns, in which a missing value would turn integers into floats.
    """
    keys = dict.fromkeys((schema.event_id, *(key for view in views for key in view.keys)))
    columns = {feast_name(name): impressions[name] for name in keys} | {EVENT_TIMESTAMP: impressions[schema.timestamp]}
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    return frame


def lost(given: int, returned: int, distinct: int) -> JoinError:
    """The error of a join that doubles or drops rows."""
    return JoinError(
        f"the point-in-time join got {given:,} impressions and gave back {returned:,} ({distinct:,} distinct event "
        "ids): the store doubles or drops rows. Look for two impressions with the same event id, and keep the "
        "`offline_store` of features/store/feature_store.yaml."
    )
