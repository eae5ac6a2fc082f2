"""The protocols of the accuracy benchmark: split, fields, labels, and the training rows in a neighbours network."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.protocols import (
    outcome_codes,
    prepare,
    published_split,
    store_neighbours,
    with_auxiliary,
    with_unobserved,
    write_movielens,
)
from common import params
from common.errors import ParameterError
from common.paths import ENCODER, SCHEMA, TENSORS
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.schema import read_schema
from models.networks.neighbours import Neighbours
from tests.support import movielens_archive
from tests.support.small_movielens import ratings

pytestmark = pytest.mark.integration


def test_the_published_split_is_pandas_own_sample_twice() -> None:
    """8:1:1 of 1,000,209 rows are 800,167, 100,021 and 100,021; each row is in one part, by the seed 2021."""
    parts = published_split(pd.DataFrame({"row": np.arange(1_000_209)}))
    assert {name: len(part) for name, part in parts.items()} == {"train": 800167, "valid": 100021, "test": 100021}
    assert sorted(np.concatenate([part["row"] for part in parts.values()])) == list(range(1_000_209))
    again = pd.DataFrame({"row": np.arange(1_000_209)}).sample(frac=0.8, random_state=2021)
    assert parts["train"]["row"].tolist() == again["row"].tolist()


def test_movielens_has_eight_fields_and_both_labels_on_every_row(archive: Path, tmp_path: Path) -> None:
    """Rows are encoded by the eight categorical fields alone; every rating has a click and a like."""
    (tmp_path / "out").mkdir()
    settings = params.load()
    write_movielens(settings.model_copy(update={"dataset": movielens_archive.dataset(archive)}), tmp_path / "out")
    columns = {column.name for column in Encoder.read(tmp_path / "out" / ENCODER).columns}
    assert columns == {"user_id", "movie_id", "gender", "age", "occupation", "zip_code", "genre", "scenario"}
    train = open_tensors(tmp_path / "out" / TENSORS / "train")
    assert (train.categorical.shape, train.numeric.shape, train.bags.shape) == ((320, 8), (320, 0), (320, 0))
    assert not np.isnan(train.labels).any()
    assert (train.labels[:, 0] >= train.labels[:, 1]).all()
    assert (train.categorical > 0).all(), "each id of a training row is known"
    assert read_schema(tmp_path / "out" / SCHEMA).task_names == ("click", "like")


def test_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    """Another data set, or MovieLens by time: the message names the protocols there are."""
    with pytest.raises(ParameterError, match="expected one of movielens-1m, kuairand-pure, simulation"):
        prepare("criteo", None, None, tmp_path)
    with pytest.raises(ParameterError, match="the protocol of movielens-1m is random"):
        prepare("movielens-1m", None, "time", tmp_path)


def test_neighbours_are_the_training_rows_and_no_others(prepared: Path) -> None:
    """Users, items and outcomes (neither, click, both: 0, 1, 2) of the training rows, by the ids of the encoder."""
    schema, encoder = read_schema(prepared / SCHEMA), Encoder.read(prepared / ENCODER)
    train = open_tensors(prepared / TENSORS / "train")
    users, items = encoder.layout.table_rows[:2]
    network = Neighbours(users=users, items=items, outcomes=3, width=2)
    store_neighbours(network, train, outcome_codes(train.labels)[0], encoder, schema)
    expected = sorted(
        (user * items + item, item * 3 + int(click + like))
        for (user, item), (click, like) in zip(train.categorical[:, :2].tolist(), train.labels.tolist(), strict=True)
    )
    assert network.pairs.tolist() == [pair for pair, _ in expected]
    assert sorted(network.rated_of_user.tolist()) == sorted(rated for _, rated in expected)


def test_an_outcome_is_a_combination_of_labels_that_occurs() -> None:
    """Rows with the same labels have the same code; only combinations that occur have one, a missing label is 0."""
    codes, count = outcome_codes(np.array([[1, 1], [0, 0], [1, np.nan], [0, 1], [1, 1]], np.float32))
    assert (codes.tolist(), count) == ([3, 0, 1, 2, 3], 4)
    codes, count = outcome_codes(np.array([[1, 1], [0, 0], [1, 0]], np.float32))
    assert (codes.tolist(), count) == ([2, 0, 1], 3)


def test_auxiliary_labels_are_thresholds_of_the_rating(prepared: Path) -> None:
    """After click and like come rating > 1 and > 2, row by row as in the archive; in validation they are unobserved."""
    stars = np.array([int(line.split("::")[2]) for line in ratings().splitlines()])
    for part in ("train", "valid", "test"):
        rows = open_tensors(prepared / TENSORS / part)
        own = stars[rows.event_id]
        assert {1, 2, 3, 4, 5} == set(own)
        labels = with_auxiliary(rows, ("above_1", "above_2"), prepared).labels
        assert labels.dtype == np.float32
        np.testing.assert_array_equal(labels, np.stack([own > 3, own > 4, own > 1, own > 2], axis=1))
    np.testing.assert_array_equal(with_unobserved(rows, ("above_1",)).labels[:, :2], rows.labels)
    assert np.isnan(with_unobserved(rows, ("above_1",)).labels[:, 2]).all()
    assert with_auxiliary(rows, (), prepared) is rows
