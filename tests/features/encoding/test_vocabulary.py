"""Vocabularies: sorted values in Arrow memory that read like a list."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SchemaError
from features.encoding.encoder import METADATA, Encoder
from features.encoding.hash_buckets import Rows
from features.encoding.vocabulary import Vocabulary

pytestmark = pytest.mark.unit

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
VALUES = st.lists(INTEGERS, unique=True) | st.lists(TEXTS, unique=True)


@given(values=VALUES, other=st.none() | INTEGERS | TEXTS)
def test_a_vocabulary_reads_like_the_sorted_list(values: list[object], other: object) -> None:
    """Length, order, slices, positions and membership; a value of another type is in none."""
    values.sort()  # type: ignore[call-overload]
    vocabulary = Vocabulary(values)
    assert (len(vocabulary), list(vocabulary), vocabulary[1:3]) == (len(values), values, values[1:3])
    assert [vocabulary.position(value) for value in values] == list(range(len(values)))
    assert (other in vocabulary) == (other in values)
    assert vocabulary == values
    assert vocabulary == Vocabulary(values)


@given(values=VALUES, other=st.none() | INTEGERS | TEXTS, buckets=st.sampled_from([0, 5]))
def test_rows_that_are_searched_are_those_of_the_dictionary(values: list[object], other: object, buckets: int) -> None:
    """A vocabulary too large for a dictionary gives each value the same row, own, hashed or unknown."""
    values.sort()  # type: ignore[call-overload]
    held, searched = Rows(Vocabulary(values), buckets), Rows(Vocabulary(values), buckets, largest=0)
    assert [searched[value] for value in [*values, other]] == [held[value] for value in [*values, other]]
    assert not values or len(searched) == 1


def test_an_encoder_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its vocabularies stand in its JSON, under `tables`; a champion of that version goes on serving."""
    encoder = Encoder(
        "scenario", ("home",), (), {"city": ["a", "b"], "item": [1, 3], "none": []}, {"price": (1.0, 2.0)}
    )
    encoder.write(tmp_path / "encoder.parquet")
    assert Encoder.read(tmp_path / "encoder.parquet") == encoder
    plain = json.loads(pq.read_schema(tmp_path / "encoder.parquet").metadata[METADATA])
    tables = {name: list(values) for name, values in encoder.vocabularies.items()}
    (tmp_path / "encoder.json").write_text(json.dumps(plain | {"tables": tables}))
    assert Encoder.read(tmp_path / "encoder.json") == encoder


def test_another_file_is_no_encoder(tmp_path: Path) -> None:
    """The sentence names the file and what to do."""
    (tmp_path / "encoder.parquet").write_text("{}")
    with pytest.raises(SchemaError, match=r"encoder\.parquet is no encoder .*: run `dvc repro encode`"):
        Encoder.read(tmp_path / "encoder.parquet")
