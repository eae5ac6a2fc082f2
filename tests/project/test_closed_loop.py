"""The closed loop: a service answers for some days, and the pipeline trains on what came of it."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from common.yaml_file import dump_yaml, read_yaml
from tests.support.project_clone import REPRO, clone, environment
from tests.support.simulated_days import SimulatedDays, open_service

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]

START, DAYS, VISITS = datetime(2026, 1, 19, tzinfo=UTC), 5, 120  # after the last day of the simulation
LAST = (START + timedelta(days=DAYS - 1)).date()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose model was trained on sessions, and served for some days."""
    folder = clone(tmp_path_factory.mktemp("loop"))
    release = {"minimum_gain": -1.0, "guard": 0.99, "calibration": 1e9, "sample": 12}  # such a model learns little
    set_params(folder, aggregate__session__events=10, **{f"release__{name}": value for name, value in release.items()})
    run(folder, *REPRO, "inspect_online", "train@hinet_plus")
    events, impressions = folder / "artifacts/events", folder / "artifacts/impressions"
    with open_service(folder, events, impressions) as one:
        shown = asyncio.run(SimulatedDays(folder, one.ranker, events, START).run(DAYS, VISITS))
    assert shown == DAYS * VISITS * 12
    return folder


def set_params(folder: Path, **changes: object) -> None:
    """Set parameters, `__` between the sections and the key, and commit."""
    params = read_yaml(folder / "params.yaml")
    for name, value in changes.items():
        *sections, key = name.split("__")
        section = params
        for part in sections:
            section = section[part]
        section[key] = value
    (folder / "params.yaml").write_text(dump_yaml(params))
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(folder, "git", *author, "commit", "--quiet", "--all", "--message", "Settings")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in the project, which must not fail."""
    variables = {"HINET_EVENTS": str(folder / "artifacts/events")}
    variables |= {
        "HINET_IMPRESSION_LOG": str(folder / "artifacts/impressions"),
        "PREFECT_HOME": str(folder / ".prefect"),
    }
    inherited = {name: value for name, value in environment().items() if not name.startswith("HINET_")}
    done = subprocess.run(command, cwd=folder, env=inherited | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def module(folder: Path, name: str, *options: str) -> str:
    """What a command of the project prints."""
    return run(folder, sys.executable, "-m", name, *options).stdout


def test_the_pipeline_trains_on_what_the_service_showed(project: Path) -> None:
    """Every event is a row; features were served as recomputed; all stages, drift report and a backtest day run."""
    as_of = (START + timedelta(days=DAYS + 2)).isoformat()
    collected = module(project, "serving.collect", "--as-of", as_of)
    assert collected.count("1,440 events, 1,440 in the log") == DAYS, collected
    days = ["--first-day", str(START.date()), "--last-day", str(LAST)]
    folders = ["--served", "data/feedback/served", "--schema", "data/schema.json", "--features", "data/features"]
    module(project, "features.inspect_served", *folders, *days, "--out", "artifacts/flows/served")
    report = json.loads((project / "artifacts/flows/served/report.json").read_text())
    assert report["tables"]["session"]["rows"] == 5000

    set_params(project, dataset__name="feedback", dataset__path="data/feedback/log")
    run(project, *REPRO)
    rows = pd.concat([pd.read_parquet(path) for path in sorted((project / "data/training").glob("*.parquet"))])
    assert len(rows) == DAYS * VISITS * 12
    assert rows["session_recent_shown"].notna().mean() > 0.5
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["hinet_plus"]["mean_auc"] > 0.6  # a third of the items are liked
    drift = json.loads((project / "reports/drift/drift.json").read_text())
    assert drift["verdict"] in {"ok", "watch", "act"}

    served = ["--first-day", str(LAST), "--as-of", str(LAST + timedelta(days=1)), "--out", "backtest"]
    module(project, "flows.backtest", *served)
    timeline = json.loads((project / "backtest/timeline.json").read_text())
    assert [day["day"] for day in timeline["days"]] == [str(LAST)]
