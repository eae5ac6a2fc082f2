"""Drift of served impressions: a service writes its log, labels arrive later, and the drift report reads both."""

import http.client
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pytest

from benchmarks.serving.servers import OURS, serve
from common.exit_status import VERDICTS
from common.paths import ROOT
from features.schema import read_schema
from tests.support import tiny_project

REQUESTS, ITEMS, NIGHT = 1_500, 9, 3  # `serve.log.sample` of them are logged; every item of the tiny world; an hour
pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with `log`, the impressions of a service; the hour of every request is 3."""
    root = tiny_project.build(tmp_path_factory.mktemp("served"), rows=6000, drift__fewest_rows=50)
    sources = {
        "HINET_MODEL": str(root / tiny_project.MODEL),
        "HINET_ONLINE_STORE": str(root / tiny_project.ONLINE),
        "HINET_IMPRESSION_LOG": str(root / "log"),
    }
    with serve(OURS, environment=sources) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        for number in range(REQUESTS):
            body = {
                "user_id": number % 8,
                "scenario": ("feed", "search", "channel")[number % 3],
                "candidates": list(range(ITEMS)),
                "context": {"hour": NIGHT},
            }
            connection.request("POST", "/rank", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert (response.status, response.read()[:0]) == (200, b"")
    return root


def command(project: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command line of docs/operations/index.md, in the project."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def evaluated(project: Path, out: str) -> tuple[int, dict, str]:
    """Exit status, drift.json and page of the impressions served until now, with the events that have arrived."""
    today = datetime.now(UTC).date()
    made = command(
        project,
        "monitoring.impression_window",
        "--log",
        "log",
        "--events",
        "arrived",
        "--schema",
        "data/schema.json",
        "--views",
        "data/features/views.json",
        "--first-day",
        today - timedelta(days=1),
        "--last-day",
        today,
        "--out",
        "served.parquet",
    )
    assert made.returncode == 0, made.stderr
    done = command(
        project, "monitoring.drift", "--reference", tiny_project.MODEL, "--out", out, "--current", "served.parquet"
    )
    assert (project / out / "drift.json").is_file(), done.stderr
    return (
        done.returncode,
        json.loads((project / out / "drift.json").read_text()),
        (project / out / "index.html").read_text(),
    )


def arrive(project: Path) -> None:
    """Write an event a minute after each served row: every second one is a click."""
    schema, log = read_schema(project / "data/schema.json"), f"read_parquet('{project}/log/*/*/*.parquet')"
    logged = {name for name, *_ in duckdb.sql(f"describe from {log}").fetchall()}
    values = {
        schema.timestamp: "served_at + interval 1 minute",
        schema.event_id: "row_number() over ()",
        "click": "(place % 2)::tinyint",
        "order": "0::tinyint",
    }
    columns = ", ".join(
        f'{values.get(column.name, f"{column.name}" if column.name in logged else "null")} as "{column.name}"'
        for column in schema.events
    )
    days = duckdb.sql(f"select distinct (served_at + interval 1 minute)::date from {log}").fetchall()
    for (day,) in days:
        folder = project / "arrived" / f"day={day}"
        folder.mkdir(parents=True)
        part = f"(select {columns} from {log}) where \"{schema.timestamp}\"::date = '{day}'"
        duckdb.sql(f"copy (from {part}) to '{folder}/part-0.parquet'")


def test_served_impressions_are_evaluated_before_and_after_their_labels_arrive(project: Path) -> None:
    """The hour is a finding at once; labels, calibration and AUC are there once the events are."""
    status, early, page = evaluated(project, "early")
    rows = early["current"]["rows"]
    assert (status, early["verdict"], early["current"]["source"]) == (VERDICTS["act"], "act", "served")
    assert 0.05 * REQUESTS * ITEMS < rows < 0.2 * REQUESTS * ITEMS, "about the share of serve.log.sample"
    assert ("hour", "all") in {(one["column"], one["scenario"]) for one in early["findings"]}
    assert early["current"]["labelled_rows"] == 0
    assert all(cell["auc"] is None and cell["verdict"] is None for cell in early["performance"])
    assert "no labels yet" in page
    arrive(project)
    status, late, page = evaluated(project, "late")
    assert (status, late["current"]["rows"], late["current"]["labelled_rows"]) == (VERDICTS["act"], rows, rows)
    clicks = [cell for cell in late["performance"] if cell["task"] == "click"]
    assert all(cell["auc"] is not None for cell in clicks)
    assert ("no labels yet" in page, "no positives" in page) == (False, True), "nothing was ordered"
