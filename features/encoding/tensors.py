"""Encoded rows as .npy files: written batch by batch, read memory-mapped."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tqdm import tqdm

from common.errors import SchemaError
from common.stored_files import read_batches, read_table, row_count
from features.encoding.encoder import Batch, Encoder, stack_columns
from features.encoding.positions import position_index
from features.schema import Schema, Task

BATCH_ROWS = 100_000
CHOICE_SET, POSITION, WEIGHT = "choice_set", "position", "weight"  # files of arrays that only some schemas have


Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensors(Batch):
    """Encoded rows with labels float32 [N, T] (NaN = unobserved), event_id int64 [N], user int64 [N] (a code).

    The label of a multi-class task is the index of its class, that of a regression task is in its own unit.
    `choice_set` int64 [N] (a code) says which rows are candidates of one choice; None where the schema has no choice
    task. `position` int32 [N] is the index of the position at which a row was shown (features/encoding/positions.py);
    None where the schema has no position. `weight` float32 [N] says how much a row counts; None where the schema has no
    weight.
    """

    labels: NDArray[np.float32]
    event_id: NDArray[np.int64]
    user: NDArray[np.int64]
    choice_set: NDArray[np.int64] | None = None
    position: NDArray[np.int32] | None = None
    weight: NDArray[np.float32] | None = None


def write_tensors(
    encoder: Encoder, schema: Schema, rows: Path, out: Path, encoded: Iterable[Arrays] | None = None
) -> None:
    """Encode the Parquet file `rows` batch by batch into .npy files under `out`, to be memory-mapped.

    `encoded` are its rows in their order where they have been encoded elsewhere: the arrays of one batch after another.
    """
    out.mkdir(parents=True)
    total = row_count(rows)
    if encoded is None:
        tables = (pa.Table.from_batches([batch]) for batch in read_batches(rows, BATCH_ROWS))
        encoded = (encode_rows(encoder, schema, table) for table in tables)
    files: dict[str, BinaryIO] = {}
    progress = tqdm(total=total, desc=f"encode {out.name}", unit="row", unit_scale=True, mininterval=1)
    with ExitStack() as opened, progress:
        for arrays in encoded:
            for name, values in arrays.items():
                if name not in files:
                    path, shape = out / f"{name}.npy", (total, *values.shape[1:])
                    files[name] = opened.enter_context(_open(path, values.dtype, shape))
                files[name].write(np.ascontiguousarray(values).data)
            progress.update(len(arrays["event_id"]))
    for name, column in (("user", schema.user), (CHOICE_SET, schema.choice_set)):
        if column is not None:
            codes = read_table(rows, [column])[column].combine_chunks().dictionary_encode().indices
            np.save(out / f"{name}.npy", codes.to_numpy().astype(np.int64))


def open_tensors(folder: Path) -> Tensors:
    """The tensors that `write_tensors` wrote, memory-mapped."""
    names = ("categorical", "bags", "numeric", "scenario", "labels", "event_id", "user")
    present = (name for name in (CHOICE_SET, POSITION, WEIGHT) if (folder / f"{name}.npy").exists())
    return Tensors(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*names, *present)})


def encode_rows(encoder: Encoder, schema: Schema, rows: pa.Table) -> Arrays:
    """The arrays of rows by name, but for the codes of users and choice sets, which depend on all rows."""
    labels = [labels_of(task, rows[task.name]) for task in schema.tasks]
    position = {} if schema.position is None else {POSITION: position_index(rows[schema.position].to_numpy())}
    weight = {} if schema.weight is None else {WEIGHT: rows[schema.weight].to_numpy()}
    return vars(encoder.encode(rows)) | {
        "labels": stack_columns(labels, rows.num_rows, np.float32),
        "event_id": rows[schema.event_id].to_numpy(),
        **position,
        **weight,
    }


def labels_of(task: Task, values: pa.ChunkedArray) -> NDArray[np.float32]:
    """0 or 1, or the index of the class, NaN where unobserved [N]; raises SchemaError on a class not declared."""
    if task.classes is not None:
        index = pc.index_in(values, value_set=pa.array(task.classes, values.type), skip_nulls=True)
        if index.null_count > values.null_count:
            undeclared = pc.unique(values.filter(pc.and_(index.is_null(), values.is_valid()))).to_pylist()
            raise SchemaError(f"labels of {task.name} are {undeclared[:5]}, none of its classes {task.classes}")
        values = index
    labels: NDArray[np.float32] = pc.fill_null(values.cast(pa.float32()), np.nan).to_numpy()
    return labels


def _open(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> BinaryIO:
    """An .npy file of an array, open behind its header; pages of a memory map would count as memory of the process."""
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file
