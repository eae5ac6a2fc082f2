"""Writes the training set: the point-in-time join of the whole log, checked and split into train, valid and test."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from common import params
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.blocks import blocks
from features.engine.engines import open_engine
from features.engine.protocol import Engine, Group, StoringEngine
from features.engine.session_view import session_views
from features.engine.window_join import define_training_rows, join_by_event
from features.schema import SPLITS, Schema, View
from features.session.item_values import read_item_values
from features.session.offline import write_features
from features.store.point_in_time import BATCH_ROWS, feast_join, lost
from features.store.splits import assign_splits


def write_training_set(
    schema: Schema, views: tuple[View, ...], settings: params.Params, *, events: Path, features: Path, out: Path
) -> dict[str, int]:
    """Write train.parquet, valid.parquet and test.parquet under `out`; returns the number of rows of each.

    Args:
        schema: Declaration of the data set.
        views: Feature views to join.
        settings: The engine, and how the impressions are split.
        events: Folder of the validated events, one folder per day.
        features: Folder of the views' Parquet files.
        out: Folder that is written.

    Raises JoinError where the join loses or doubles a row.
    """
    out.mkdir(parents=True)
    split_of = assign_splits(events, schema, settings.join)
    types = arrow_schema((*schema.events, *(column for view in views for column in view.columns)))
    expected = sum(pq.read_metadata(file).num_rows for file in events.glob("*/*.parquet"))
    paths = {"events": events, "features": features, "scratch": out / "spill"}
    if settings.engine.name == "spark" and settings.engine.storage is not None:
        with _on_spark(schema, views, settings.engine, **paths) as (engine, rows):
            return _store(engine, rows, schema, types, expected=expected, split_of=split_of, out=out)
    written = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        joined = stack.enter_context(_joined(schema, views, settings.engine, **paths))
        writers = [stack.enter_context(pq.ParquetWriter(out / f"{name}.parquet", types)) for name in SPLITS]
        for block in _checked(joined, schema.event_id, types, expected):
            codes = split_of(block)
            for code, name in enumerate(SPLITS):
                part = block.filter(pa.array(codes == code))
                if part.num_rows:
                    writers[code].write_table(part)
                written[name] += part.num_rows
    return written


def _store(
    engine: Engine, rows: str, schema: Schema, types: pa.Schema, *, expected: int, split_of: Group, out: Path
) -> dict[str, int]:
    """Write the splits of the relation `rows` to the storage of an engine; raises JoinError as above."""
    assert isinstance(engine, StoringEngine)
    outs, event_id = [out / f"{name}.parquet" for name in SPLITS], sql.column(schema.event_id)
    columns = sql.columns(types.names)
    counts = engine.write_groups(f"select {columns} from {rows}", split_of, types, outs, order=schema.event_id)
    for name, path in zip(SPLITS, outs, strict=True):
        engine.read(f"__{name}", path, columns=(schema.event_id,))
    ids = " union all ".join(f"select {event_id} as __id from __{name}" for name in SPLITS)
    ((distinct,),) = engine.rows(f"select count(distinct __id) from ({ids})")
    if sum(counts) != expected or distinct != expected:
        raise lost(expected, sum(counts), distinct)
    return dict(zip(SPLITS, counts, strict=True))


@contextmanager
def _joined(
    schema: Schema, views: tuple[View, ...], engine: params.Engine, *, events: Path, features: Path, scratch: Path
) -> Iterator[Iterable[pa.RecordBatch]]:
    """The impressions with their features in the order of their event ids: by Feast on DuckDB, or by Spark."""
    if engine.name == "spark":
        with _on_spark(schema, views, engine, events=events, features=features, scratch=scratch) as (opened, rows):
            yield opened.batches(f"select * from {rows} order by {sql.column(schema.event_id)}")
        return
    with (
        _sessions(schema, views, events=events, features=features, parent=scratch.parent) as sessions,
        feast_join(schema, views, events=events, features=features, sessions=sessions.values()) as joined,
    ):
        yield joined


@contextmanager
def _on_spark(
    schema: Schema, views: tuple[View, ...], engine: params.Engine, *, events: Path, features: Path, scratch: Path
) -> Iterator[tuple[Engine, str]]:
    """The engine, and its relation of the impressions with their features."""
    with (
        _sessions(schema, views, events=events, features=features, parent=scratch.parent) as sessions,
        open_engine(engine, scratch) as opened,
    ):
        daily = tuple(view for view in views if view.session is None)
        rows = define_training_rows(opened, schema, daily, events=events, features=features)
        for view, path in sessions.items():
            rows = join_by_event(opened, rows, view, schema.event_id, path)
        yield opened, rows


@contextmanager
def _sessions(
    schema: Schema, views: tuple[View, ...], *, events: Path, features: Path, parent: Path
) -> Iterator[dict[View, Path]]:
    """Files of the session features, which this process computes on either engine, from a log that DuckDB sorts."""
    with TemporaryDirectory(dir=parent) as folder:
        sessions = {view: Path(folder) / f"{view.name}.parquet" for view in session_views(views)}
        for view, path in sessions.items():
            values = read_item_values(schema, view, views, features)
            write_features(schema, view, events=events, out=path, scratch=Path(folder) / "spill", values=values)
        yield sessions


def _checked(joined: Iterable[pa.RecordBatch], event_id: str, types: pa.Schema, expected: int) -> Iterator[pa.Table]:
    """Rows in blocks of BATCH_ROWS, with their declared types; raises JoinError when some are missing or doubled."""
    rows = doubled = last = 0
    with tqdm(desc="join", unit=" rows", unit_scale=True, total=expected, mininterval=1) as bar:
        for block in blocks(joined, BATCH_ROWS):
            named = block.rename_columns(types.names)
            ids = named[event_id].to_numpy()
            doubled += int((np.diff(ids) == 0).sum()) + bool(rows and ids[0] == last)
            rows, last = rows + len(ids), ids[-1]
            yield named.cast(types)
            bar.update(len(ids))
    if doubled or rows != expected:
        raise lost(expected, rows, rows - doubled)
