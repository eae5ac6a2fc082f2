"""models/networks/feature_embedding.py: the stacked lookup equals an embedding per column."""

import doctest
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.networks import feature_embedding
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig

pytestmark = pytest.mark.unit


def data_spec(
    tables: Sequence[int],
    columns: Sequence[int],
    bags: Sequence[int],
    lengths: Sequence[int],
    numeric: int = 0,
    vectors: Sequence[int] = (),
) -> DataSpec:
    """Data with one scenario and one task."""
    return DataSpec(
        table_rows=tables,
        categorical_tables=columns,
        bag_tables=bags,
        bag_lengths=lengths,
        numeric=numeric,
        scenarios=1,
        task_outputs=(1,),
        vectors=vectors,
    )


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(feature_embedding).failed == 0


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_embedding_is_one_lookup_per_column_bag_means_and_numbers(data: st.DataObject) -> None:
    """The stacked lookup equals a table per column, the mean over the ids of each bag, and the numbers after them."""
    table_rows = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    a_table = st.integers(0, len(table_rows) - 1)
    columns, bags = data.draw(st.lists(a_table, max_size=4)), data.draw(st.lists(a_table, max_size=3))
    lengths = [data.draw(st.integers(1, 4)) for _ in bags]
    rows, numbers, width = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3)), 3
    spec = data_spec(table_rows, columns, bags, lengths, numbers)
    embed = FeatureEmbedding(spec, NetworkConfig(embedding_width=width))
    tables = embed.weight.split(table_rows)
    ids = [[data.draw(st.integers(0, table_rows[t] - 1)) for t in columns] for _ in range(rows)]
    bag_ids = [
        [[data.draw(st.integers(-1, table_rows[t] - 1)) for _ in range(n)] for t, n in zip(bags, lengths, strict=True)]
        for _ in range(rows)
    ]
    numeric = torch.randn(rows, numbers)
    flat = torch.tensor([[i for bag in row for i in bag] for row in bag_ids], dtype=torch.int32).reshape(rows, -1)
    x = embed(torch.tensor(ids, dtype=torch.int32).reshape(rows, -1), flat, numeric)
    for row in range(rows):
        parts = [tables[t][i] for t, i in zip(columns, ids[row], strict=True)]
        for table, bag in zip(bags, bag_ids[row], strict=True):
            inside = [tables[table][i] for i in bag if i >= 0]
            parts.append(torch.stack(inside).mean(0) if inside else torch.zeros(width))
        torch.testing.assert_close(x[row], torch.cat([*parts, numeric[row]]))
    assert x.shape == (rows, embed.width)


def test_a_vector_is_a_field_of_its_own_and_the_numbers_come_last() -> None:
    """Each vector times its matrix, in its own place; the mean vector, which is encoded as zeros, stays zeros."""
    embed = FeatureEmbedding(data_spec((4,), (0,), (), (), 6, (3, 2)), NetworkConfig(embedding_width=5))
    numeric = torch.randn(7, 6)
    x = embed(torch.zeros(7, 1).int(), torch.zeros(7, 0).int(), numeric)
    first, second = (project.weight for project in embed.projections)
    expected = [embed.weight[[0] * 7], numeric[:, 1:4] @ first.t(), numeric[:, 4:] @ second.t(), numeric[:, :1]]
    torch.testing.assert_close(x, torch.cat(expected, dim=1))
    assert x.shape == (7, embed.width)
    assert embed.fields == 3
    assert not embed(torch.zeros(1, 1).int(), torch.zeros(1, 0).int(), torch.zeros(1, 6))[:, 5:].any()


def test_vectors_that_do_not_fit_are_refused() -> None:
    """More numbers in vectors than a row has."""
    with pytest.raises(ValueError, match="vectors of widths"):
        data_spec((4,), (0,), (), (), 4, (3, 2))


def test_padding_of_bags_trains_nothing() -> None:
    """A bag with nothing but padding leaves no gradient in its table."""
    embed = FeatureEmbedding(data_spec((4,), (), (0,), (3,)), NetworkConfig(embedding_width=2))
    embed(torch.zeros(2, 0).int(), torch.full((2, 3), -1).int(), torch.zeros(2, 0)).sum().backward()
    assert embed.weight.grad is not None
    assert not embed.weight.grad.any()
