"""Encoded rows computed by an engine, on many machines: a batch of rows becomes the bytes of each array by row."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.stored_files import read_batches
from features.encoding.encoder import Encoder
from features.encoding.tensors import Arrays, encode_rows
from features.engine.protocol import Engine
from features.schema import Schema

_EVENT_ID = "event_id"  # the name of that array, whatever the column is called


def encoded_rows(engine: Engine, encoder: Encoder, schema: Schema, rows: Path) -> Iterator[Arrays]:
    """The arrays of the Parquet file `rows`, whose order is that of its event ids, batch by batch."""
    for first in read_batches(rows, 1):
        shapes = {
            name: (values.dtype, values.shape[1:])
            for name, values in encode_rows(encoder, schema, pa.Table.from_batches([first])).items()
            if name != _EVENT_ID
        }
        types = pa.schema([(_EVENT_ID, pa.int64()), *((name, pa.binary()) for name in shapes)])
        engine.read("__encoded", rows)
        for batch in engine.mapped("select * from __encoded", partial(_to_bytes, encoder, schema), types):
            arrays = {
                name: _from_bytes(batch.column(name)).view(dtype).reshape(len(batch), *shape)
                for name, (dtype, shape) in shapes.items()
            }
            yield {_EVENT_ID: batch.column(_EVENT_ID).to_numpy(), **arrays}
        break


def _to_bytes(encoder: Encoder, schema: Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of rows as batches of event ids and of the bytes of each row of every other array."""
    for batch in batches:
        arrays = encode_rows(encoder, schema, pa.Table.from_batches([batch]))
        event_id = pa.array(arrays.pop(_EVENT_ID))
        columns = [_bytes_of(values) for values in arrays.values()]
        yield pa.record_batch([event_id, *columns], names=[_EVENT_ID, *arrays])


def _bytes_of(values: NDArray[np.generic]) -> pa.Array:
    """The bytes of each row of an array [N, ...] as a column of binary values."""
    rows, width = len(values), values[:1].nbytes
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values).tobytes())]
    return pa.BinaryArray.from_buffers(pa.binary(), rows, buffers)


def _from_bytes(column: pa.BinaryArray) -> NDArray[np.uint8]:
    """The bytes of all values of a column, one after another; none is null."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
