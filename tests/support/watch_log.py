"""A declared log of videos with a regression target and weights of impressions, and its way through every stage.

The watch time of odd videos is long, 20 s in the mean, that of even ones 5 s; clicks follow the same rule. Impressions
on iOS count three times.
"""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd

from features.aggregate import aggregate
from features.encode import encode
from features.ingest import ingest
from features.inspect_online import inspect_online
from features.inspect_tensors import inspect_tensors
from features.inspect_training import inspect_training
from features.join import join
from features.materialize import materialize
from features.summarize import summarize
from features.validate import validate
from models.evaluate import evaluate
from models.train import train
from tests.support import world
from tests.support.tiny_project import MODEL, ONLINE

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
    }
    world.write_params(
        root, dataset__name="declared", dataset__path="dataset.yaml", serve__objective=objective, **changes
    )
    with contextlib.chdir(root):
        _run_stages()
    return root


def _run_stages() -> None:
    data, artifacts, schema = Path("data"), Path("artifacts"), Path("data/schema.json")
    features, views = data / "features", data / "features/views.json"
    training, tensors, validated = data / "training", data / "tensors", data / "validated"
    encoder, reference = artifacts / "encoder.json", artifacts / "reference.json"
    ingest(schema=schema, out=data / "ingested", truth=data / "truth")
    validate(
        schema=schema,
        ingested=data / "ingested",
        out=validated,
        quarantine=data / "quarantine",
        report=Path("validation.json"),
        docs=Path("docs/validation"),
    )
    aggregate(schema=schema, validated=validated, out=features)
    join(schema=schema, validated=validated, features=features, out=training)
    inspect_training(
        schema=schema,
        validated=validated,
        features=features,
        training=training,
        report=Path("training.json"),
        docs=Path("docs/training"),
    )
    materialize(schema=schema, features=features, online=ONLINE)
    inspect_online(
        schema=schema, features=features, online=ONLINE, report=Path("online.json"), docs=Path("docs/online")
    )
    encode(schema=schema, views=views, training=training, encoder=encoder, out=tensors)
    inspect_tensors(
        schema=schema,
        encoder=encoder,
        training=training,
        tensors=tensors,
        report=Path("tensors.json"),
        docs=Path("docs/tensors"),
    )
    summarize(schema=schema, encoder=encoder, training=training, out=reference)
    train(model="hinet", schema=schema, views=views, encoder=encoder, reference=reference, tensors=tensors, out=MODEL)
    evaluate(
        models=[MODEL],
        tensors=tensors,
        truth=data / "truth",
        schema=schema,
        out=Path("metrics.json"),
        plots_out=Path("plots"),
        predictions=Path("predictions"),
    )
