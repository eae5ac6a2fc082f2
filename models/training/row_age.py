"""The age of the training rows: only the youngest are trained on, and a row counts for less the older it is.

The tensors hold no time. The rows stand in the order of train.parquet, whose timestamps are read here. Ages are counted
from the newest training row, which is as close to the split as there is one.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ParameterError, TrainingError
from common.stored_files import read_table
from common.train_params import Train
from features.encoding.tensors import Tensors

DAY = np.timedelta64(1, "D")


def reads_age(settings: Train) -> bool:
    """Whether a training with these parameters depends on the age of its rows."""
    return settings.window_days is not None or settings.half_life_days is not None


def age_rows(rows: Tensors, training: Path | None, timestamp: str, settings: Train) -> Tensors:
    """The rows of the last train.window_days days, with weights that halve every train.half_life_days days.

    Each weight is multiplied by 2^(-age / half life), age in days. Raises ParameterError where `training` is None, and
    TrainingError where its rows are others.

    Args:
        rows: the training rows.
        training: folder of train.parquet, the same rows before they were encoded.
        timestamp: name of the column with the timestamp of the impression.
        settings: params.train.
    """
    if not reads_age(settings):
        return rows
    if training is None:
        raise ParameterError(
            "train.window_days, train.warm_window_days and train.half_life_days need --training, the folder of "
            "train.parquet, for the timestamps of the rows"
        )
    age = _ages(training / "train.parquet", timestamp, len(rows.scenario))
    if settings.half_life_days is not None:
        decay = np.exp2(-age / settings.half_life_days).astype(np.float32)
        weight = decay if rows.weight is None else decay * rows.weight
        rows = dataclasses.replace(rows, weight=weight)
    return rows if settings.window_days is None else _select(rows, age < settings.window_days)


def _ages(file: Path, timestamp: str, expected: int) -> NDArray[np.float64]:
    """Days from each row [N] of the Parquet file to the newest one."""
    timestamps = read_table(file, [timestamp])[timestamp].to_numpy()
    if len(timestamps) != expected:
        raise TrainingError(
            f"{file} has {len(timestamps)} rows, but the tensors have {expected}: expected the rows that were encoded; "
            "run `dvc repro`"
        )
    ages: NDArray[np.float64] = (timestamps.max() - timestamps) / DAY
    return ages


def _select(rows: Tensors, kept: NDArray[np.bool_]) -> Tensors:
    """The rows that are `kept`; where these stand side by side, as in a log that is in order, nothing is copied."""
    index = np.flatnonzero(kept)
    adjacent = index[-1] - index[0] + 1 == len(index)
    selected = slice(index[0], index[-1] + 1) if adjacent else index
    columns: dict[str, Any] = {
        name: column if column is None else column[selected] for name, column in vars(rows).items()
    }
    print(f"the newest days: {len(index):,} of {len(kept):,} training rows", flush=True)
    return Tensors(**columns)
