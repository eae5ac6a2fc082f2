"""Window and decay of the training rows by their age, against an obvious computation row by row."""

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import params, stage
from common.errors import ParameterError, TrainingError
from features.encoding.tensors import Tensors
from models.model_folder import read_model
from models.train import train
from models.training.row_age import age_rows
from tests.support.examples import examples
from tests.support.training import encoded_world, opposite_rows, train_settings, with_columns

pytestmark = pytest.mark.unit
START = datetime(2026, 1, 5)


def write_times(folder: Path, seconds: list[int]) -> Path:
    """A folder with a train.parquet of rows with these timestamps, in seconds since the start."""
    times = pa.array([START + timedelta(seconds=second) for second in seconds], pa.timestamp("us"))
    pq.write_table(pa.table({"timestamp": times}), folder / "train.parquet")
    return folder


def aged(rows: Tensors, folder: Path | None, **changes: Any) -> Tensors:
    """The rows with window and half-life."""
    return age_rows(rows, folder, "timestamp", train_settings(**changes))


@given(
    seconds=st.lists(st.integers(0, 20 * 86_400), min_size=1, max_size=40),
    window=st.none() | st.integers(1, 21),
    half_life=st.none() | st.floats(0.1, 100),
    weighted=st.booleans(),
    ordered=st.booleans(),
)
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_and_weights_are_those_of_a_computation_row_by_row(
    tmp_path: Path, seconds: list[int], window: int | None, half_life: float | None, weighted: bool, ordered: bool
) -> None:
    """A row is kept where it is less than `window` days older than the newest; its weight is 2^(-age / half life)."""
    seconds = sorted(seconds) if ordered else seconds
    rows = opposite_rows(len(seconds), 0)
    own = np.linspace(0.5, 2, len(seconds), dtype=np.float32) if weighted else None
    rows = with_columns(rows, weight=own)
    result = aged(rows, write_times(tmp_path, seconds), window_days=window, half_life_days=half_life)
    kept, weights = [], []
    for row, second in enumerate(seconds):
        age = (max(seconds) - second) / 86_400
        if window is None or age < window:
            kept.append(row)
            decay = 1.0 if half_life is None else math.pow(2, -age / half_life)
            weights.append(decay * (1.0 if own is None else float(own[row])))
    assert result.event_id.tolist() == kept
    assert np.array_equal(result.categorical, rows.categorical[kept])
    assert np.array_equal(result.labels, rows.labels[kept])
    if half_life is None and not weighted:
        assert result.weight is None
    else:
        np.testing.assert_allclose(result.weight, weights, rtol=1e-6)


def test_without_window_and_decay_the_rows_are_untouched() -> None:
    """Nothing is read: there need be no file."""
    rows = opposite_rows(10, 0)
    assert aged(rows, None) is rows


def test_rows_in_order_are_not_copied(tmp_path: Path) -> None:
    """The window of a log in order is a view of its arrays, so that memory-mapped rows stay on the disk."""
    rows = opposite_rows(4, 0)
    assert np.shares_memory(aged(rows, write_times(tmp_path, [0, 9, 10**6, 10**6]), window_days=1).labels, rows.labels)


def test_the_file_must_hold_the_rows(tmp_path: Path) -> None:
    """No file, or one of other rows, is refused with what to do."""
    with pytest.raises(ParameterError, match=r"need --training, the folder of train\.parquet"):
        aged(opposite_rows(3, 0), None, half_life_days=1.0)
    with pytest.raises(TrainingError, match=r"has 2 rows, but the tensors have 3: .* run `dvc repro`"):
        aged(opposite_rows(3, 0), write_times(tmp_path, [0, 1]), window_days=1)


@pytest.mark.integration
@pytest.mark.usefixtures("one_thread")
def test_the_stage_trains_on_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window beyond the log changes nothing, to the bit; a day, and a decay, make other weights."""
    arguments, tags = encoded_world(tmp_path, rows=600), {}
    monkeypatch.setattr(stage, "threads", lambda: 1)
    for name, changes in {
        "all": {},
        "long": {"window_days": 100},
        "day": {"window_days": 1},
        "decay": {"half_life_days": 0.5},
    }.items():
        changed = params.load().model_copy(update={"train": train_settings(epochs=1, **changes)})
        with monkeypatch.context() as patched:
            patched.setattr(params, "load", lambda changed=changed: changed)
            train(model="shared_bottom", out=tmp_path / name, **arguments)
        tags[name] = read_model(tmp_path / name).tag
    assert tags["all"] == tags["long"]
    assert len(set(tags.values())) == 3
