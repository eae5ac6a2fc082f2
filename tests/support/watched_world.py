"""The tiny world with all that a log may hold: watch times, weights, positions, vectors of user, item and context.

The model has random weights: what the service does with such columns can be tested, not what a network learns of them.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.schema import Column, DType, Kind, Role, Schema, Task, TaskKind
from tests.support import tiny_project, world

WATCH, QUERY, TASTE, IMAGE = "watch_seconds", "query", "taste", "image"
OBJECTIVE = {"click": 1.0, "order": 1.0, WATCH: 0.05}
LENGTH = 3


def schema() -> Schema:
    """The declaration: `watch_seconds` is a number of at least 0, and vectors may be missing."""
    tiny = world.schema()
    query, taste, image = (_vector(name) for name in (QUERY, TASTE, IMAGE))
    events = (
        Column(name=WATCH, role=Role.LABEL, dtype=DType.FLOAT32, minimum=0, nullable=True),
        Column(name="counted", role=Role.WEIGHT, dtype=DType.FLOAT32, minimum=0),
        Column(name="rank", role=Role.POSITION, dtype=DType.INT64, minimum=0),
        query,
    )
    return dataclasses.replace(
        tiny,
        name="watched",
        tasks=(*tiny.tasks, Task(name=WATCH, kind=TaskKind.REGRESSION)),
        events=(*tiny.events, *events),
        users=(*tiny.users, taste),
        items=(*tiny.items, image),
    )


def _vector(name: str) -> Column:
    return Column(
        name=name, role=Role.FEATURE, dtype=DType.FLOAT32_LIST, kind=Kind.VECTOR, length=LENGTH, nullable=True
    )


def tables(rows: int = 600) -> dict[str, pd.DataFrame]:
    """Valid tables of `schema`: items with an odd id are watched for 20 s in the mean, the others for 5 s."""
    random, frames = np.random.default_rng(4), world.tables(rows=rows)
    means = np.where(frames["events"]["item_id"] % 2, 20.0, 5.0)
    watched = pd.Series(random.gamma(4.0, means / 4).astype("float32")).mask(random.random(rows) < 0.05)
    values = {
        "events": {
            WATCH: watched,
            "counted": random.choice([1.0, 3.0], rows).astype("float32"),
            "rank": random.integers(0, 5, rows),
            QUERY: _vectors(random, rows),
        },
        "users": {TASTE: _vectors(random, len(frames["users"]))},
        "items": {IMAGE: _vectors(random, len(frames["items"]))},
    }
    return {name: frame.assign(**values[name]) for name, frame in frames.items()}


def _vectors(random: np.random.Generator, count: int) -> list[list[float] | None]:
    """Vectors, of which the first is missing."""
    return [None, *random.normal(size=(count - 1, LENGTH)).astype("float32").tolist()]


def build(root: Path, **changes: Any) -> Path:
    """Every stage from validated events to a model of random weights, under `root`; returns it."""
    return tiny_project.build(root, tables=tables(), declared=schema(), serve__objective=OBJECTIVE, **changes)
