"""The signed logarithm: defined for every number, and log(1 + v) from 0 on, bit for bit."""

import math

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encoding.signed_log import signed_log, signed_log_sql

pytestmark = pytest.mark.unit
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(NUMBERS, min_size=1))
def test_it_is_symmetric_and_plain_from_zero_on(numbers: list[float]) -> None:
    """Of |v| it is log(1 + |v|) exactly, of -v its negative, and it keeps the order."""
    values = np.array(numbers)
    assert signed_log(np.abs(values)).tobytes() == np.log1p(np.abs(values)).tobytes()
    assert (signed_log(-values) == -signed_log(values)).all()
    assert (np.diff(signed_log(np.sort(values))) >= 0).all()


@given(NUMBERS)
def test_sql_agrees(number: float) -> None:
    """The form of DuckDB is ln(1 + v) from 0 on, exactly, and agrees with numpy below."""
    with duckdb.connect() as connection:
        query = f"select {signed_log_sql('v')}, case when v >= 0 then ln(1 + v) end from (select $v::double as v)"
        signed, plain = connection.execute(query, {"v": number}).fetchone() or ()
    assert plain is None or signed == plain
    assert math.isclose(signed, float(signed_log(np.array([number]))[0]), rel_tol=1e-9, abs_tol=1e-9)
