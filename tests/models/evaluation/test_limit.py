"""The true probabilities of the test rows, joined by event id."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import JoinError
from models.evaluation.limit import true_probabilities
from tests.support.evaluation import SCHEMA, encoded_rows, write_truth

pytestmark = pytest.mark.unit


def test_the_limit_is_the_truth_of_the_same_rows(tmp_path: Path) -> None:
    """Joined by event id, whatever the order of the file."""
    test, truth = encoded_rows()
    write_truth(tmp_path, test, truth, order=np.random.default_rng(1).permutation(600))
    np.testing.assert_array_equal(true_probabilities(tmp_path, test, SCHEMA), truth)


def test_there_is_no_limit_where_the_truth_is_not_known(tmp_path: Path) -> None:
    """A real log has no truth: no limit."""
    pq.write_table(pa.table({"event_id": pa.array([], pa.int64())}), tmp_path / "truth.parquet")
    assert true_probabilities(tmp_path, encoded_rows()[0], SCHEMA) is None


def test_the_truth_of_another_log_is_refused(tmp_path: Path) -> None:
    """A test row without a true probability is an error that counts them."""
    test, truth = encoded_rows()
    write_truth(tmp_path, test, truth, order=np.arange(595))
    with pytest.raises(JoinError, match="no true probability for 5 of 600 test rows"):
        true_probabilities(tmp_path, test, SCHEMA)
