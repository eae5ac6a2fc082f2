"""Diversification: at most some items of one value in the first ranks, greedily, held against an obvious slow one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ranking import diversity
from serving.ranking.diversity import diversified, value_codes

pytestmark = pytest.mark.unit
SINGLE = st.lists(st.none() | st.sampled_from("abc"), max_size=30).map(lambda values: pa.array(values, pa.string()))
SETS = st.lists(st.none() | st.lists(st.none() | st.integers(0, 4), max_size=4), max_size=30).map(
    lambda values: pa.array(values, pa.list_(pa.int64()))
)


def values_of(value: Any) -> set[Any]:
    """The values that an item counts for."""
    return {one for one in (value if isinstance(value, list) else [value]) if one is not None}


def obvious(order: list[int], column: list[Any], most: int, first: int) -> tuple[list[int], int]:
    """For each rank, look at all items that are left, from the best on, and count those that are placed."""
    placed: list[int] = []
    while len(placed) < first:
        left = [item for item in order if item not in placed]
        counts = [value for item in placed for value in values_of(column[item])]
        free = [item for item in left if all(counts.count(value) < most for value in values_of(column[item]))]
        if not free:
            break
        placed.append(free[0])
    return placed + [item for item in order if item not in placed], len(placed)


def ranked(values: list[Any], most: int, first: int) -> tuple[list[int], int]:
    """The order of items 0, 1, .. with these values, which come in order of their scores."""
    order, placed = diversified(np.arange(len(values)), value_codes(pa.array(values)), most=most, first=first)
    return order.tolist(), placed


def test_a_rank_has_the_best_item_whose_value_is_below_the_limit() -> None:
    """Two of `a` at most: the third waits until the first four ranks are filled, and then comes next by its score."""
    assert ranked(["a", "a", "a", "b", "a", "c"], most=2, first=4) == ([0, 1, 3, 5, 2, 4], 4)


def test_beyond_the_first_ranks_the_order_is_by_score() -> None:
    """The limit holds in two ranks only."""
    assert ranked(["a", "a", "a", "b", "b"], most=1, first=2) == ([0, 3, 1, 2, 4], 2)


def test_an_item_without_a_value_is_not_limited() -> None:
    """Three items without a value keep their ranks."""
    assert ranked([None, "a", None, "a", None], most=1, first=4) == ([0, 1, 2, 4, 3], 4)


def test_an_item_counts_for_each_of_its_values() -> None:
    """Item 1 shares `b` with item 0 and waits, item 2 does not; a value that an item repeats counts once."""
    assert ranked([["a", "b"], ["b"], ["c", "c"], [], ["c"]], most=1, first=3) == ([0, 2, 3, 1, 4], 3)


def test_where_the_limit_cannot_be_kept_the_ranks_are_filled_by_score() -> None:
    """One value only: the limit holds in two of four ranks, and the answer says so."""
    assert ranked(["a"] * 5, most=2, first=4) == ([0, 1, 2, 3, 4], 2)


def test_nothing_is_diversified_into_nothing() -> None:
    """No candidates, no ranks."""
    empty = np.array([], np.int64)
    for kind in (pa.string(), pa.list_(pa.string())):
        order, placed = diversified(empty, value_codes(pa.array([], kind)), most=1, first=3)
        assert (order.tolist(), placed) == ([], 0)


@given(data=st.data(), column=SINGLE | SETS, most=st.integers(1, 3), first=st.integers(1, 35), chunk=st.integers(1, 8))
def test_the_order_is_that_of_the_obvious_algorithm(
    data: st.DataObject, column: pa.Array, most: int, first: int, chunk: int
) -> None:
    """Whatever the scores, values and sizes are, in chunks of any size."""
    order = data.draw(st.permutations(range(len(column))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "CHUNK", chunk)
        actual, placed = diversified(np.array(order, np.int64), value_codes(column), most=most, first=first)
    assert (actual.tolist(), placed) == obvious(order, column.to_pylist(), most, first)
