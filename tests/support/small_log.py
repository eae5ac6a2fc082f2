"""A small log in CSV files as a platform might keep it, and its declaration."""

from pathlib import Path

import numpy as np
import pandas as pd

from common import params
from common.paths import ROOT

DECLARATION = """\
name: videos
events:
  files: log_*.csv
  columns:
    timestamp: {role: timestamp, sql: to_timestamp(ts)}
    uid: user int64
    video: item int64
    scenario: {role: scenario, sql: "case tab when 1 then 'home' else 'search' end", values: [home, search]}
    device: categorical string
    click: {role: label, sql: rating > 3}
    like: {role: label, sql: rating > 4, requires: click}
users:
  files: users.csv
  columns:
    age: numeric int64 nullable
items:
  files: items.parquet
  columns:
    category: categorical string
    price: numeric float32
"""
FIRST = 1_767_571_200  # seconds: 2026-01-05


def frames(rows: int = 3000, users: int = 60, items: int = 40, days: int = 10) -> dict[str, pd.DataFrame]:
    """Events, users and items."""
    random = np.random.default_rng(0)
    events = pd.DataFrame(
        {
            "ts": FIRST + np.sort(random.integers(0, days * 86_400, rows)),
            "uid": random.integers(1, users + 1, rows),
            "video": random.integers(1, items + 1, rows),
            "tab": random.integers(0, 3, rows),
            "device": random.choice(["ios", "android"], rows),
            "rating": random.integers(1, 6, rows),
            "watch_seconds": random.integers(0, 100, rows),
        }
    )
    viewers = pd.DataFrame({"uid": range(1, users + 1), "age": random.integers(12, 80, users)})
    things = pd.DataFrame(
        {
            "video": range(1, items + 1),
            "category": random.choice(list("abc"), items),
            "price": random.gamma(2, 2, items).astype("float32"),
        }
    )
    return {"events": events, "users": viewers, "items": things}


def write(folder: Path, **tables: pd.DataFrame) -> Path:
    """Write the log (two files of events) and its declaration into `folder`; returns the declaration's path."""
    log = frames() | tables
    events = log["events"]
    events.iloc[: len(events) // 2].to_csv(folder / "log_1.csv", index=False)
    events.iloc[len(events) // 2 :].to_csv(folder / "log_2.csv", index=False)
    log["users"].to_csv(folder / "users.csv", index=False)
    log["items"].to_parquet(folder / "items.parquet")
    path = folder / "dataset.yaml"
    path.write_text(DECLARATION)
    return path


def dataset(path: Path) -> params.Dataset:
    """The section `dataset` of params.yaml with a declared log."""
    section = params.load(ROOT / "params.yaml").dataset
    return section.model_copy(update={"name": "declared", "path": str(path)})
