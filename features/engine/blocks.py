"""Blocks of rows of one size: the same rows give the same row groups, however a query hands its batches over."""

from collections.abc import Iterable, Iterator

import pyarrow as pa


def blocks(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `rows` rows (the last may be shorter, and none is empty)."""
    pending: list[pa.RecordBatch] = []
    for batch in filter(len, batches):
        pending.append(batch)
        while sum(part.num_rows for part in pending) >= rows:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, rows)
            pending = table.slice(rows).to_batches()
    if pending:
        yield pa.Table.from_batches(pending)
