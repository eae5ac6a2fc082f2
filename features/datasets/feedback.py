"""The feedback log: what the service showed, and what came of it, as `python -m serving.collect` writes it.

`dataset.path` is the folder that holds schema.json, users.parquet, items.parquet and events/day=YYYY-MM-DD/*.parquet.
Its schema is that of the model that served, so that a model which is trained on it reads the same columns. Events keep
their ids: the sessions in serving know them by these, and the newest events of the log are merged with theirs.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import SourceError
from common.params import Dataset
from features.datasets.log import Counts, Log
from features.schema import Column, Schema, read_schema

CHUNK = 131_072  # rows


def declare(dataset: Dataset) -> Schema:
    """The schema of the model that served; raises SourceError where nothing was collected."""
    path = Path(dataset.path) / "schema.json"
    if not path.is_file():
        raise SourceError(
            f"{path.absolute()} does not exist: dataset.path of a feedback log is the folder `log` of what "
            "`python -m serving.collect` writes (data/feedback/log); run it where the service's events are"
        )
    return read_schema(path)


def read(dataset: Dataset) -> Log:
    """The partitions by day; raises SourceError where there are none."""
    schema, folder = declare(dataset), Path(dataset.path)
    files = sorted(folder.glob("events/day=*/*.parquet"))
    if not files:
        raise SourceError(
            f"{folder.absolute()} holds no events yet: `python -m serving.collect` prints what the events lack that "
            "it has received"
        )
    counts = Counts()
    return Log(
        schema=schema,
        users=_frame(folder / "users.parquet", schema.users),
        items=_frame(folder / "items.parquet", schema.items),
        chunks=lambda: _events(files, schema, counts),
        counts=counts,
        has_event_ids=True,
        rows=sum(pq.read_metadata(file).num_rows for file in files),
        path=folder,
    )


def _events(files: list[Path], schema: Schema, counts: Counts) -> Iterator[pd.DataFrame]:
    names = [column.name for column in schema.events]
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(CHUNK, columns=names):
                counts.rows_read += batch.num_rows
                yield pa.Table.from_batches([batch]).to_pandas(types_mapper=pd.ArrowDtype)


def _frame(path: Path, columns: tuple[Column, ...]) -> pd.DataFrame:
    with pq.ParquetFile(path) as opened:
        table = opened.read([column.name for column in columns])
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
