"""Two small feature views, one with numbers and one with lists, and their Parquet files."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.schema import Column, DType, Kind, Role, View

NUMBER = Column(name="price_seen", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True)
LIST = Column(name="last_items", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, nullable=True, length=3)
VIEWS = (
    View(name="user", keys=("user_id",), columns=(LIST,)),
    View(name="item", keys=("item_id",), columns=(NUMBER,)),
)


def write_view(folder: Path, view: View, keys: dict[str, list], timestamps: list, values: list) -> pd.DataFrame:
    """One view's Parquet file, as aggregate would write it."""
    (column,) = view.columns
    event_timestamp = pd.Series(timestamps, dtype="datetime64[us]")
    frame = pd.DataFrame({**keys, "event_timestamp": event_timestamp})
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    kind = pa.float32() if column is NUMBER else pa.list_(pa.int64())
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow.append_column(column.name, pa.array(values, kind)), folder / f"{view.name}.parquet")
    return frame.assign(**{column.name: pd.Series(values, dtype=object)})
