"""A declared log with vectors and positions, and its way through every stage to a trained model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.yaml_file import dump_yaml, read_yaml
from tests.support import world
from tests.support.stages import run_stages

DECLARATION = """\
name: pictures
events:
  files: events.parquet
  columns:
    timestamp: timestamp
    uid: user string
    picture: item int64
    page: {role: scenario, values: [home, search]}
    query: vector length 2 nullable
    rank: position
    click: label
users:
  files: users.csv
  columns:
    taste: {kind: vector, length: 3, sql: "taste::float[]"}
items:
  files: items.parquet
  columns:
    image: {kind: vector, length: 3, nullable: true, description: embedding of the picture}
"""
USERS, ITEMS, LENGTH, RANKS = 40, 30, 3, 8
BROKEN = {ITEMS - 1: [1.0, 2.0], ITEMS - 2: [1.0, float("nan"), 2.0]}  # images that the quality gate refuses
IDS = np.array([0, 2**63 - 1, -(2**63), *range(-ITEMS, -3)])  # int64 to its limits
LONGEST = 100_000  # characters of an id


def users() -> list[str]:
    """Ids of 1 to 900 characters, and one of LONGEST."""
    return [chr(0x4E00 + index) * (1 + 23 * index) for index in range(USERS - 1)] + ["a" * LONGEST]


def frames(rows: int = 3000) -> dict[str, pa.Table]:
    """Events, users and items: a picture is clicked whose image points where the user's taste does, and on top."""
    random = np.random.default_rng(3)
    tastes, images = (random.normal(size=(count, LENGTH)).astype(np.float32) for count in (USERS, ITEMS))
    images[:, 0] += 2  # so that the images have a direction in common
    user, item = random.integers(0, USERS - 1, rows), random.integers(0, ITEMS, rows)
    user[::200] = USERS - 1  # few, for their ids are long
    seconds = np.sort(random.integers(0, 8 * 86_400, rows))
    rank = random.integers(0, RANKS, rows)
    chance = 1 / (1 + np.exp(-1.5 * (tastes[user] * images[item]).sum(axis=1) - np.linspace(1.5, -1.5, RANKS)[rank]))
    queries = random.normal(size=(rows, 2)).astype(np.float32).tolist()
    pictures = [None, *images[1:].tolist()]
    for index, image in BROKEN.items():
        pictures[index] = image
    events = {
        "timestamp": pa.array(pd.Timestamp("2026-01-05") + pd.to_timedelta(seconds, unit="s")).cast(pa.timestamp("us")),
        "uid": np.array(users(), dtype=object)[user],
        "picture": IDS[item],
        "page": random.choice(["home", "search"], rows),
        "query": [query if index % 3 else None for index, query in enumerate(queries)],
        "rank": rank,
        "click": random.random(rows) < chance,
    }
    return {
        "events": pa.table(events),
        "users": pa.table({"uid": users(), "taste": [json.dumps(taste) for taste in tastes.tolist()]}),
        "items": pa.table({"picture": IDS, "image": pictures}),
    }


def write(folder: Path, declaration: str = DECLARATION) -> Path:
    """Write the log into `folder`: vectors as lists of doubles, and as text; returns the declaration's path."""
    folder.mkdir(parents=True)
    log = frames()
    for name in ("events", "items"):
        pq.write_table(log[name], folder / f"{name}.parquet")
    log["users"].to_pandas().to_csv(folder / "users.csv", index=False)
    (folder / "dataset.yaml").write_text(declaration)
    return folder / "dataset.yaml"


def build(root: Path, declaration: str = DECLARATION) -> Path:
    """Every stage from the raw log to metrics of a trained HiNet, under `root`; returns it."""
    write(root / "log", declaration)
    changes = {"encode__minimum_count": 2, "train__epochs": 4, "train__batch_size": 128, "drift__fewest_rows": 50}
    world.write_params(root, **changes, validate__tolerance=0.2, train__device="cpu", train__learning_rate=0.01)
    plain = read_yaml(root / "params.yaml")
    plain["dataset"] |= {"name": "declared", "path": "log"}
    (root / "params.yaml").write_text(dump_yaml(plain), encoding="utf-8")
    run_stages(root)
    return root
