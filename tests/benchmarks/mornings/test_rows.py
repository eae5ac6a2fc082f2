"""The rows of a morning: what is known then, and nothing else."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.mornings.rows import mornings, write_morning
from common.errors import ParameterError
from common.paths import TRAINING
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from tests.support.flipped_taste import ROWS, ROWS_AFTERWARDS, write_run

pytestmark = pytest.mark.integration


def test_a_morning_has_the_rows_of_the_days_before(tmp_path: Path) -> None:
    """Of the sixth day: four days to train on, the fifth to choose the epoch by, in order of time.

    An item that only the validation rows have is unknown to the encoder.
    """
    run = write_run(tmp_path / "run")
    file = run / TRAINING / "train.parquet"
    events = pd.read_parquet(file)
    fifth = events["timestamp"].dt.day == 9
    events.loc[fifth & (events["item_id"] == 3), "item_id"] = 77
    events.sample(frac=1, random_state=1).to_parquet(file, index=False, coerce_timestamps="us")
    out = tmp_path / "morning"
    write_morning(run, datetime.date(2026, 1, 10), out)
    rows = {name: pd.read_parquet(out / "training" / f"{name}.parquet") for name in ("train", "valid", "test")}
    days = {name: sorted(set(part["timestamp"].dt.day)) for name, part in rows.items()}
    assert days == {"train": [5, 6, 7, 8], "valid": [9], "test": [10]}
    assert all(part["timestamp"].is_monotonic_increasing for part in rows.values())
    assert [len(part) for part in rows.values()] == [4 * ROWS, ROWS_AFTERWARDS, ROWS_AFTERWARDS]
    assert 77 not in Encoder.read(out / "encoder.parquet").vocabularies["item_id"]
    train = open_tensors(out / "tensors" / "train")
    assert np.array_equal(train.event_id, rows["train"]["event_id"])


def test_mornings_are_days_of_the_log(tmp_path: Path) -> None:
    """From the first to the last, both counted from 1; fewer than two, or too early ones, are refused."""
    run = write_run(tmp_path)
    days = [day.day for day in mornings(run, 4, None, 1)]
    assert days == [8, 9, 10, 11]
    assert [day.day for day in mornings(run, 4, 6, 2)] == [8, 10]
    for first, last in ((7, None), (4, 4), (3, None)):
        with pytest.raises(ParameterError, match="the log has 7 days"):
            mornings(run, first, last, 1)
