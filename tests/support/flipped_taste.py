"""The joined rows of a week in which the taste flips: even items are clicked first, odd ones afterwards."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.paths import SCHEMA, TRAINING, VIEWS
from features.schema import to_json
from tests.support import world

DAYS, FLIPPED = 7, 5  # the taste flips with the fifth day, counted from 1
ROWS, ROWS_AFTERWARDS = 300, 4800  # of a day: the first flipped day outnumbers all before it four to one
RECIPE = {
    "train__epochs": 3,
    "train__batch_size": 64,
    "train__learning_rate": 0.01,
    "train__average": 0.9,
    "train__embedding_weight_decay": 0.0,
    "encode__minimum_count": 1,
}


def write_run(folder: Path) -> Path:
    """Write params.yaml, schema, views and the joined rows to `folder`, the last day as test rows; returns it."""
    events = flipped_events()
    (folder / TRAINING).mkdir(parents=True)
    (folder / VIEWS).parent.mkdir(parents=True)
    (folder / SCHEMA).write_text(to_json(world.schema()))
    (folder / VIEWS).write_text(to_json(()))
    world.write_params(folder, **RECIPE)
    newest = events["timestamp"] >= world.START + pd.Timedelta(days=DAYS - 1)
    for name, part in (("train", events[~newest]), ("test", events[newest])):
        part.to_parquet(folder / TRAINING / f"{name}.parquet", index=False, coerce_timestamps="us")
    return folder


def flipped_events() -> pd.DataFrame:
    """Events of `world.schema()`: nine of ten are clicked where the taste is, one of ten elsewhere."""
    random = np.random.default_rng(0)
    rows = [ROWS_AFTERWARDS if day >= FLIPPED else ROWS for day in range(1, DAYS + 1)]
    events = world.tables(rows=sum(rows), days=DAYS)["events"]
    day = np.repeat(np.arange(DAYS), rows)
    seconds = np.concatenate([np.sort(random.integers(0, 86_400, count)) for count in rows])
    events["timestamp"] = (world.START + pd.to_timedelta(day * 86_400 + seconds, unit="s")).astype("datetime64[us]")
    events["hour"] = events["timestamp"].dt.hour.astype("int64")
    liked = (events["item_id"] % 2 == 0) == (day + 1 < FLIPPED)
    events["click"] = (random.random(len(events)) < np.where(liked, 0.9, 0.1)).astype("int8")
    events["order"] = events["click"] * (random.random(len(events)) < 0.3).astype("int8")
    return events
