"""benchmarks/accuracy/cost.py: a training step of each network, side by side."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.accuracy.cost import measure
from benchmarks.accuracy.rows import Row, read_rows
from benchmarks.accuracy.runs import train_member
from common import params
from common.errors import ParameterError

pytestmark = pytest.mark.integration
TRAIN = params.load().train


def row(name: str, *units: int, batch_size: int = 64) -> Row:
    """A row of one multilayer perceptron with these widths, trained for an epoch."""
    (plain,) = read_rows("movielens-1m", ["shared_mlp"], TRAIN)
    shape = plain.train.shared_mlp.model_copy(update={"units": list(units)})
    train = plain.train.model_copy(update={"shared_mlp": shape, "epochs": 1, "batch_size": batch_size})
    return dataclasses.replace(plain, name=name, train=train)


@pytest.mark.filterwarnings("ignore:cells with one class")  # the archive is small
def test_a_network_with_more_products_takes_longer(prepared: Path) -> None:
    """Two layers of 1,024 more than twice as long as one of 8, which is 1; parameters are those of a training."""
    small, large = row("small", 8), row("large", 1024, 1024)
    costs = measure([small, large], prepared, rounds=5)
    assert costs["small"]["times_of_first"] == 1
    assert costs["large"]["times_of_first"] > 2
    assert costs["small"]["samples_per_second"] > costs["large"]["samples_per_second"] > 0
    assert costs["small"]["parameters"] == train_member(small, 1, prepared).parameters


def test_rows_that_fill_no_batch_are_refused(prepared: Path) -> None:
    """With their number, and how many are expected."""
    with pytest.raises(ParameterError, match="training rows: expected a batch of 4,096 or more"):
        measure([row("small", 8, batch_size=4096)], prepared, rounds=1)
