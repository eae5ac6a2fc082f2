"""Stage: impressions and their features as of the moment (Feast), split into train, valid and test.

The point-in-time join gives each impression the newest row of each view whose event_timestamp is not later than
the impression. Impressions pass through it in batches, so memory does not grow with the log; every row that goes
in must come out.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore
from tqdm import tqdm

from common import params, stage
from common.errors import JoinError
from common.params import Join
from features.engine.arrow_types import arrow_schema
from features.schema import EVENT_TIMESTAMP, Schema, View, read_schema, read_views
from features.store.definitions import SERVICE, open_store

SPLITS = ("train", "valid", "test")
BATCH_ROWS = 50_000  # Feast compares an impression with every snapshot of its entities: memory is rows x snapshots


def join(*, schema: Path, validated: Path, features: Path, out: Path) -> None:
    """Write train.parquet, valid.parquet and test.parquet under `out`; raises JoinError if a row is lost."""
    declared, views, settings = read_schema(schema), read_views(features / "views.json"), params.load().join
    out.mkdir(parents=True)
    with TemporaryDirectory() as scratch:
        ibis.set_backend(ibis.duckdb.connect(memory_limit="2GB", temp_directory=scratch))  # what Feast joins with
        # Feast wants a registry and an online store even to read the offline one
        online, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
        store = open_store(declared, views, features=features, online=online, registry=registry)
        written = _write(store, declared, views, validated / "events", settings, out)
    print("joined " + ", ".join(f"{name} {rows:,}" for name, rows in written.items()) + " impressions", flush=True)


def _write(
    store: FeatureStore, schema: Schema, views: tuple[View, ...], events: Path, settings: Join, out: Path
) -> dict[str, int]:
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
    entities = impressions.rename_columns(
        [EVENT_TIMESTAMP if name == schema.timestamp else name for name in impressions.column_names]
    ).to_pandas()
    service = store.get_feature_service(SERVICE)
    joined = store.get_historical_features(entities, service).to_arrow().sort_by(schema.event_id)
    expected = impressions[schema.event_id].combine_chunks().sort()
    if not joined[schema.event_id].combine_chunks().equals(expected):
        raise JoinError(
            f"the point-in-time join got {impressions.num_rows:,} impressions and gave back {joined.num_rows:,} "
            f"({pc.count_distinct(joined[schema.event_id]).as_py():,} distinct event ids): the store doubles or drops "
            "rows. Look for two snapshots of one entity with the same event_timestamp in the features, and keep "
            "`offline_store: {type: duckdb}` in features/store/feature_store.yaml."
        )
    features = tuple(column for view in views for column in view.columns)
    columns = [EVENT_TIMESTAMP if c.name == schema.timestamp else c.name for c in (*schema.events, *features)]
    types = arrow_schema((*schema.events, *features))
    return joined.select(columns).rename_columns(types.names).cast(types)


def assign_splits(events: Path, schema: Schema, settings: Join) -> Callable[[pa.Table], np.ndarray]:
    """A function from impressions to 0, 1 or 2: train, valid or test.

    `time`: test is the fewest whole last days that hold at least `test_share` of the rows, valid likewise before them.
    `random`: a draw by seed over all event ids; the candidates of a choice go where the first of them goes.
    """
    files = (events / "*" / "*.parquet").as_posix()
    source = f"read_parquet('{files}', hive_partitioning = false)"
    with duckdb.connect() as connection:
        if settings.split == "random":
            (newest,) = connection.execute(f'select max("{schema.event_id}") from {source}').fetchone() or (0,)
            ids = int(newest) + 1
            first = None if schema.choice_set is None else _first_of_set(connection, source, schema, ids)
            return _random_split(ids, schema, settings, first)
        daily = connection.execute(
            f'select "{schema.timestamp}"::date as day, count(*) from {source} group by day order by day'
        ).fetchall()
    return _time_split(daily, schema, settings)


def _random_split(
    ids: int, schema: Schema, settings: Join, first: np.ndarray | None = None
) -> Callable[[pa.Table], np.ndarray]:
    drawn = np.random.default_rng(settings.seed).permutation(ids)
    train = round(ids * (1 - settings.valid_share - settings.test_share))
    valid = round(ids * settings.valid_share)
    codes = ((drawn >= train).astype("int8") + (drawn >= train + valid)).astype("int8")
    codes = codes if first is None else codes[first]
    return lambda impressions: codes[impressions[schema.event_id].to_numpy()]


def _first_of_set(connection: duckdb.DuckDBPyConnection, source: str, schema: Schema, ids: int) -> np.ndarray:
    """The least event id among the candidates that were offered with each event [ids]."""
    first = np.arange(ids)
    found = connection.execute(
        f'select "{schema.event_id}" as event, min("{schema.event_id}") over (partition by "{schema.choice_set}") as '
        f"first from {source}"
    ).fetchnumpy()
    first[found["event"]] = found["first"]
    return first


def _time_split(daily: list[tuple[date, int]], schema: Schema, settings: Join) -> Callable[[pa.Table], np.ndarray]:
    days, rows = np.array([day for day, _ in daily], "datetime64[us]"), np.array([count for _, count in daily])
    held = rows[::-1].cumsum()[::-1]  # rows of a day and all later ones
    test = np.flatnonzero(held >= settings.test_share * rows.sum())[-1]
    valid = np.flatnonzero(held - held[test] >= settings.valid_share * rows.sum())
    if not len(valid) or not valid[-1]:
        raise JoinError(
            f"a split by time needs at least three days with rows, found {len(days)} ({', '.join(map(str, daily))}): "
            "nothing would be left to train on. Set join.split to random or take smaller shares in params.yaml."
        )
    starts = days[[valid[-1], test]]
    return lambda impressions: np.searchsorted(starts, impressions[schema.timestamp].to_numpy(), "right")


def _batches(events: Path, schema: Schema) -> Iterator[pa.Table]:
    """The impressions in time order, at least BATCH_ROWS at a time (the last batch: what is left)."""
    types = arrow_schema(schema.events)
    files = sorted(events.glob("*/*.parquet"))
    waiting: list[pa.Table] = []
    for file in tqdm(files, desc="join", unit="day", mininterval=1):
        waiting.append(pq.read_table(file, schema=types, partitioning=None))
        if sum(table.num_rows for table in waiting) >= BATCH_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


if __name__ == "__main__":
    stage.run(join)
