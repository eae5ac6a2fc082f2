"""A declared log of videos with a regression target and weights of impressions, and its way through every stage.

The watch time of odd videos is long, 20 s in the mean, that of even ones 5 s; clicks follow the same rule. Impressions
on iOS count three times.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from tests.support import world
from tests.support.stages import run_inspections, run_stages

DECLARATION = """\
name: videos
events:
  files: events.parquet
  columns:
    timestamp: {role: timestamp, sql: to_timestamp(ts)}
    uid: user int64
    video: item int64
    scenario: {role: scenario, sql: "case tab when 1 then 'home' else 'search' end", values: [home, search]}
    device: categorical string
    click: {role: label}
    watch_seconds: {role: label, task: regression, sql: watch_ms / 1000, minimum: 0, nullable: true}
    counted: {role: weight, sql: "case device when 'ios' then 3 else 1 end"}
"""
LONG, SHORT, SPREAD = 20.0, 5.0, 0.5  # mean watch times in seconds; deviation of their logarithm
FIRST = 1_767_571_200  # seconds: 2026-01-05


def events(rows: int = 3000, users: int = 30, videos: int = 20, days: int = 8) -> pd.DataFrame:
    """The raw log; one watch time in twenty is not observed."""
    random = np.random.default_rng(0)
    uid, video = random.integers(1, users + 1, rows), random.integers(1, videos + 1, rows)
    attractive = video % 2 == 1
    noise = np.exp(SPREAD * random.normal(size=rows) - SPREAD**2 / 2)
    watched = 1000 * np.where(attractive, LONG, SHORT) * noise
    return pd.DataFrame(
        {
            "ts": FIRST + np.sort(random.integers(0, days * 86_400, rows)),
            "uid": uid,
            "video": video,
            "tab": random.integers(1, 3, rows),
            "device": random.choice(["ios", "android"], rows),
            "click": (random.random(rows) < np.where(attractive, 0.6, 0.15)).astype(int),
            "watch_ms": pd.Series(watched.round()).astype("Int64").mask(random.random(rows) < 0.05),
        }
    )


def build(root: Path, log: pd.DataFrame) -> Path:
    """Every stage of dvc.yaml but `package`, under `root`, as dvc.yaml runs them."""
    log.to_parquet(root / "events.parquet")
    (root / "dataset.yaml").write_text(DECLARATION)
    objective = {"click": 1.0, "watch_seconds": 0.05}
    changes = {
        "drift__fewest_rows": 100,
        "train__epochs": 8,
        "train__patience": 8,
        "train__batch_size": 128,
        "train__learning_rate": 0.01,
        "release__sample": 20,
    }
    world.write_params(
        root, dataset__name="declared", dataset__path="dataset.yaml", serve__objective=objective, **changes
    )
    run_stages(root)
    run_inspections(root)
    return root
