"""Blocks of rows: of one size, however a query hands its batches over."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.engine.blocks import blocks

pytestmark = pytest.mark.unit


@given(sizes=st.lists(st.integers(0, 7), max_size=8), rows=st.integers(1, 5))
def test_the_same_rows_come_in_blocks_of_one_size(sizes: list[int], rows: int) -> None:
    """Every row once, in order; all blocks have the size, but for the last, which has what is left."""
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    batches = [
        pa.record_batch({"row": pa.array(range(end - size, end), pa.int64())})
        for size, end in zip(sizes, ends, strict=True)
    ]
    made = list(blocks(batches, rows))
    assert [row for block in made for row in block["row"].to_pylist()] == list(range(sum(sizes)))
    assert all(len(block) == rows for block in made[:-1])
    assert all(0 < len(block) <= rows for block in made[-1:])
