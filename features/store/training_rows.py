"""Writes the training set: the point-in-time join of the whole log, checked and split into train, valid and test."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from common import params
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.blocks import blocks
from features.engine.engines import open_engine
from features.engine.window_join import define_training_rows
from features.schema import SPLITS, Schema, View
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
    """The impressions with their features in the order of their event ids: by Feast on DuckDB, or by Spark."""
    if engine.name == "duckdb":
        with feast_join(schema, views, events=events, features=features) as joined:
            yield joined
    else:
        with open_engine(engine, scratch) as opened:
            rows = define_training_rows(opened, schema, views, events=events, features=features)
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
