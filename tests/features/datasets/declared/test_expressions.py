"""SQL of declared values: exact, or an error of the statement."""

import duckdb
import pytest

from features.datasets.declared.expressions import exact
from features.schema import Column, DType, Kind, Role

pytestmark = pytest.mark.unit

ID = Column(name="id", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL)


def read(number: float) -> int:
    """A number of a column of doubles as an id."""
    (value,) = duckdb.execute(
        f"select {exact('raw', 'DOUBLE', ID, 'UTC')} from (select ?::double as raw)", [number]
    ).fetchone()
    return int(value)


@pytest.mark.parametrize("number", [0, -1, 2**53 - 1, 1 - 2**53])
def test_an_integer_below_2_53_is_read_from_a_float(number):
    """Every smaller integer is one double, and no other integer is."""
    assert read(number) == number


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**62, 0.5])
def test_what_may_have_been_rounded_is_refused(number):
    """The double of 2^53 may have been 2^53 + 1 before it was stored: like a fraction, it is no id."""
    with pytest.raises(duckdb.Error, match="column id is int64, found"):
        read(number)
