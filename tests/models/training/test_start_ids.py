"""Embeddings are mapped value by value, with hash buckets and without, against a lookup by the encoders themselves."""

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoding.encoder import Encoder
from features.schema import Column, DType, Kind, Role
from models.training.start_ids import count_ids, map_ids
from tests.support.examples import examples

pytestmark = pytest.mark.unit
COLUMNS = (
    Column(name="item", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL),
    Column(name="recent", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, length=3, domain="item"),
    Column(name="city", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL),
)
ITEMS, CITIES = st.lists(st.integers(0, 12), unique=True), st.lists(st.sampled_from("abcdef"), unique=True)


def encoder(items: list[int], cities: list[str], buckets: int) -> Encoder:
    """An encoder with these vocabularies; items share a table with a list, and have hash buckets."""
    shared = {"item": buckets} if buckets else {}
    return Encoder("scenario", ("feed",), COLUMNS, {"item": items, "city": cities}, {}, buckets=shared)


def embeddings(one: Encoder) -> torch.Tensor:
    """Weights that say which row they are."""
    return torch.arange(sum(one.layout.table_rows), dtype=torch.float32)[:, None].repeat(1, 2)


def row_of(one: Encoder, weights: torch.Tensor, column: str, value: int | str) -> torch.Tensor:
    """The embedding that the encoder reads for a value of `item`, `recent` or `city`."""
    plain = {"item": [value if column == "item" else 0], "recent": [[value if column == "recent" else 0]]}
    rows = pa.table({**plain, "city": [value if column == "city" else "a"], "scenario": ["feed"]})
    batch, second = one.encode(rows), one.layout.table_rows[0]
    index = {"item": batch.categorical[0, 0], "recent": batch.bags[0, 0], "city": second + batch.categorical[0, 1]}
    return weights[int(index[column])]


@given(ITEMS, CITIES, ITEMS, CITIES, st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=examples(120), deadline=None)
def test_a_value_with_a_row_begins_as_what_the_model_reads_for_it(
    items: list[int], cities: list[str], new_items: list[int], new_cities: list[str], buckets: int, new_buckets: int
) -> None:
    """Its own row, its bucket's, or the unknown one; with as many buckets, so does a value without a row.

    Vocabularies are permuted, grown and shrunk.
    """
    before, after = encoder(items, cities, buckets), encoder(new_items, new_cities, new_buckets)
    old = embeddings(before)
    new = map_ids(old, -embeddings(after) - 1, before, after)
    assert len(new) == sum(after.layout.table_rows)
    for column, values in (("item", new_items), ("recent", new_items), ("city", new_cities)):
        for value in values:
            assert torch.equal(row_of(after, new, column, value), row_of(before, old, column, value))
    assert torch.equal(new[0], old[0])
    if buckets == new_buckets:
        for value in range(100, 110):  # in no vocabulary
            assert torch.equal(row_of(after, new, "item", value), row_of(before, old, "item", value))
    kept = len(set(items) & set(new_items))
    expected = {"kept": kept, "new": len(new_items) - kept, "dropped": len(items) - kept}
    assert count_ids(before, after)["item"] == expected


def test_a_new_table_keeps_its_initial_rows() -> None:
    """A vocabulary that the model does not have is learned from the start."""
    before = Encoder("scenario", ("feed",), COLUMNS[:1], {"item": [1, 2]}, {})
    after = encoder([2, 3], ["a"], 0)
    new = map_ids(embeddings(before), -embeddings(after) - 1, before, after)
    assert new[:, 0].tolist() == [0, 2, 0, -4, -5]
