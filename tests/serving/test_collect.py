"""The command `python -m serving.collect`: killed at any time it goes on; the stages read what it writes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from common.exit_status import DONE, LOCKED
from common.files import exclusive_lock
from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml
from features.aggregate import aggregate
from features.encode import encode
from features.encoding.tensors import open_tensors
from features.engine.session_view import EVENT_IDS
from features.ingest import ingest
from features.inspect_training import inspect_training
from features.join import join
from features.schema import SPLITS, to_json
from features.validate import validate
from serving.collect import LOCK, REPORT
from serving.events.event_queue import EventQueue
from tests.support import world
from tests.support.feedback import LABELS, LATER, SCHEMA, log_impressions, put, rows_of, write_profiles

pytestmark = pytest.mark.process

TABLES = world.tables(rows=300, days=4)
IDS = np.random.default_rng(0).permutation(len(TABLES["events"])) * 10**15 - 10**17  # those of a client, in any order
EVENTS = TABLES["events"].assign(event_id=IDS)
BY_ID = EVENTS.sort_values("event_id", ignore_index=True)
COLUMNS = [column.name for column in SCHEMA.events]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose service showed every event, and got their labels; the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, folder in {"MODEL": "model", "EVENTS": "events", "IMPRESSION_LOG": "impressions"}.items():
        monkeypatch.setenv(f"HINET_{name}", str(tmp_path / folder))
    world.write_params(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "schema.json").write_text(to_json(SCHEMA))
    log_impressions(tmp_path / "impressions", EVENTS)
    write_profiles(tmp_path / "data/ingested", TABLES)
    queue = EventQueue(tmp_path / "events")
    for labels in (("click",), LABELS):
        for first in range(0, len(EVENTS), 100):
            put(queue, EVENTS[first : first + 100].to_dict("records"), labels)
    queue.close()
    return tmp_path


def command(root: Path) -> list[str]:
    """The command in the project, as of a time when every label is final."""
    return [sys.executable, "-m", "serving.collect", "--out", str(root / "feedback"), "--as-of", LATER.isoformat()]


def run(root: Path) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    return subprocess.run(command(root), env=environment(), capture_output=True, text=True, check=False)


def environment() -> dict[str, str]:
    """That of this process, with the project's code."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_killed_at_any_time_it_loses_and_doubles_nothing(root: Path) -> None:
    """Killed three times at different steps, then run to the end: each event once, with its labels and its context.

    A day that a killed one has written to its end is not written again.
    """
    interrupted = 0
    for files in (2, 12, 22):
        with subprocess.Popen(command(root), env=environment(), stdout=subprocess.DEVNULL) as started:
            end = time.monotonic() + 30
            while len(list(root.glob("feedback/**/*"))) < files and started.poll() is None:
                assert time.monotonic() < end
            interrupted += started.poll() is None
            started.kill()
    assert interrupted
    finished = run(root)
    assert finished.returncode == DONE, finished.stderr
    pd.testing.assert_frame_equal(rows_of(root)[COLUMNS], BY_ID[COLUMNS], check_dtype=False)


def test_one_collector_at_a_time(root: Path) -> None:
    """A second one ends with the status of a lock, and writes nothing."""
    with exclusive_lock(root / "feedback" / LOCK):
        refused = run(root)
    assert refused.returncode == LOCKED
    assert "another collector writes to" in refused.stderr
    assert not (root / "feedback" / REPORT).exists()


def test_without_a_queue_there_is_nothing_to_do(root: Path) -> None:
    """The report says so, and no queue is made."""
    for path in root.glob("events/*"):
        path.unlink()
    assert "nothing to do: " in run(root).stdout
    assert not list(root.glob("events/*"))
    assert json.loads((root / "feedback" / REPORT).read_text())["skipped"]


@pytest.mark.usefixtures("without_data_docs")
def test_the_log_goes_through_the_stages_like_any_log(root: Path) -> None:
    """Ingest, validate, aggregate and join: the training set has the events that were shown, with their own ids.

    So have the lists of sessions, which the service merges with those of the queue. The report counts all, by day.
    """
    finished = run(root)
    assert finished.returncode == DONE, finished.stderr
    report = json.loads((root / "feedback" / REPORT).read_text())
    assert sum(day["written"] for day in report["days"].values()) == len(EVENTS)
    assert "2026-01-05: " in finished.stdout
    world.write_params(root, aggregate__session={"events": 5})
    plain = read_yaml(root / "params.yaml")
    plain["dataset"] |= {"name": "feedback", "path": str(root / "feedback/log")}
    (root / "params.yaml").write_text(dump_yaml(plain))
    data = root / "data"
    schema, validated, features = data / "schema.json", data / "validated", data / "features"
    with contextlib.chdir(root):
        ingest(schema=schema, out=data / "again", truth=data / "truth")
        assert schema.read_text() == to_json(SCHEMA)
        quarantine, reports = data / "quarantine", {"report": root / "report.json", "docs": root / "docs"}
        validate(schema=schema, ingested=data / "again", out=validated, quarantine=quarantine, **reports)
        assert json.loads((root / "report.json").read_text())["tables"]["events"]["quarantined"] == 0
        aggregate(schema=schema, validated=validated, out=features)
        join(schema=schema, validated=validated, features=features, out=data / "training")
        inspect_training(schema=schema, validated=validated, features=features, training=data / "training", **reports)
        views, encoder = features / "views.json", data / "encoder.parquet"
        encode(schema=schema, views=views, training=data / "training", encoder=encoder, out=data / "tensors")
    rows = pd.concat([pq.read_table(data / "training" / f"{name}.parquet").to_pandas() for name in SPLITS])
    rows = rows.sort_values("event_id", ignore_index=True)
    pd.testing.assert_frame_equal(rows[COLUMNS], BY_ID[COLUMNS], check_dtype=False)
    newest = pd.read_parquet(features / "session.parquet")[EVENT_IDS]
    assert set(np.concatenate(newest)) <= set(IDS)
    assert json.loads((data / "again/counts.json").read_text())["rows_read"] == len(EVENTS)
    assert open_tensors(data / "tensors" / "train").event_id[:9].tolist() == rows_of_split(data, "train")[:9]


def rows_of_split(data: Path, name: str) -> list[int]:
    """The event ids of a split, in order."""
    return list(pq.read_table(data / "training" / f"{name}.parquet")["event_id"].to_pylist())
