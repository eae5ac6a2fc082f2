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
from features.engine.session_view import session_views
from features.engine.window_join import define_training_rows, join_by_event
from features.schema import SPLITS, Schema, View
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
    written = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        rows = _joined(schema, views, settings.engine, events=events, features=features, scratch=out / "spill")
        joined = stack.enter_context(rows)
        writers = [stack.enter_context(pq.ParquetWriter(out / f"{name}.parquet", types)) for name in SPLITS]
        for block in _checked(joined, schema.event_id, types, expected):
            codes = split_of(block)
            for code, name in enumerate(SPLITS):
                part = block.filter(pa.array(codes == code))
                if part.num_rows:
                    writers[code].write_table(part)
                written[name] += part.num_rows
    return written


@contextmanager
def _joined(
    schema: Schema, views: tuple[View, ...], engine: params.Engine, *, events: Path, features: Path, scratch: Path
) -> Iterator[Iterable[pa.RecordBatch]]:
    """The impressions with their features in the order of their event ids: by Feast on DuckDB, or by Spark.

    Session features are computed in this process in either case, from a log that DuckDB sorts.
    """
    with TemporaryDirectory(dir=scratch.parent) as folder:
        sessions = {view: Path(folder) / f"{view.name}.parquet" for view in session_views(views)}
        for view, path in sessions.items():
            write_features(schema, view, events=events, out=path, scratch=Path(folder) / "spill")
        if engine.name == "duckdb":
            with feast_join(schema, views, events=events, features=features, sessions=sessions.values()) as joined:
                yield joined
        else:
            with open_engine(engine, scratch) as opened:
                daily = tuple(view for view in views if view.session is None)
                rows = define_training_rows(opened, schema, daily, events=events, features=features)
                for view, path in sessions.items():
                    rows = join_by_event(opened, rows, view, schema.event_id, path)
                yield opened.batches(f"select * from {rows} order by {sql.column(schema.event_id)}")


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
