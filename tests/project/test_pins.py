"""Each pin of pyproject.toml that the project depends on: the operation that breaks without it."""

import contextlib
import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import duckdb
import great_expectations as gx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from great_expectations.core import ExpectationSuite
from great_expectations.expectations import ExpectColumnQuantileValuesToBeBetween
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from common.paths import ROOT

CONSTRAINTS = ROOT / "constraints.txt"


def installed(name: str) -> Version:
    """The installed version of a distribution."""
    return Version(importlib.metadata.version(name))


@pytest.mark.integration
def test_marshmallow_lets_a_suite_with_quantiles_run():
    """Marshmallow 4 turns the result of a quantile into a type that is no JSON, and the whole checkpoint crashes."""
    context = gx.get_context(mode="ephemeral")
    quantiles = {"quantiles": [0.1, 0.9], "value_ranges": [[0, 20], [80, 100]]}
    expected = ExpectColumnQuantileValuesToBeBetween(column="price", quantile_ranges=quantiles)
    suite = context.suites.add(ExpectationSuite(name="prices", expectations=[expected]))
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("prices")
    definition = asset.add_batch_definition_whole_dataframe("all")
    checked = gx.ValidationDefinition(name="prices", data=definition, suite=suite)
    context.validation_definitions.add(checked)
    result = checked.run(batch_parameters={"dataframe": pd.DataFrame({"price": np.arange(101.0)})})
    assert result.success
    assert json.loads(json.dumps(result.to_json_dict()))["success"]


@pytest.mark.integration
def test_duckdb_reads_the_timestamps_that_feast_writes(tmp_path):
    """DuckDB 2 cannot cast timestamps in nanoseconds with a zone, which Feast's store reads, to plain ones."""
    path = tmp_path / "times.parquet"
    pq.write_table(pa.table({"known_at": pa.array([0, 1_000_000_000], pa.timestamp("ns", "UTC"))}), path)
    rows = duckdb.sql(f"SELECT CAST(known_at AS TIMESTAMP) AS plain FROM '{path}' ORDER BY 1").fetchall()
    assert [row[0].second for row in rows] == [0, 1]


def needed(requirements: list[str]) -> set[str]:
    """The names of all distributions that these requirements need, at any distance, as they are installed here."""
    known, waiting = set(), [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        if (node := (canonicalize_name(one.name), frozenset(one.extras))) not in known:
            known.add(node)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                further = map(Requirement, importlib.metadata.requires(one.name) or [])
                waiting += [it for it in further if applies(it, one.extras)]
    return {name for name, _ in known}


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a distribution that is installed with these extras has this requirement here."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


@pytest.mark.unit
def test_every_package_that_is_installed_is_pinned():
    """`make setup` installs constraints.txt as it is: it has what the project needs, at any distance, and no more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", CONSTRAINTS.read_text(), re.MULTILINE)}
    assert needed([*project["dependencies"], *extras["dev"], *extras["docs"]]) - {"pip"} == pins


@pytest.mark.unit
def test_redis_is_one_that_feast_and_prefect_agree_on():
    """feast[redis] rejects redis 8: with a newer one, no resolver would have chosen this set of packages."""
    assert installed("redis") < Version("8")
    assert installed("duckdb") < Version("2")


@pytest.mark.unit
def test_the_limits_of_prefect_are_kept():
    """What breaks beyond them only a server shows, whose test is slow: below."""
    assert installed("fastapi") < Version("0.151")
    assert installed("sqlalchemy") < Version("2.1")


@pytest.fixture(scope="module")
def prefect_server():
    """The environment of a real Prefect server with its own home, and the file of its log."""
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        address = f"http://127.0.0.1:{port}/api"
        environment = os.environ | {
            "PREFECT_HOME": home,
            "PREFECT_SERVER_API_PORT": port,
            "PREFECT_API_URL": address,
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        with (Path(home) / "log").open("w+") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                yield environment, log.name
            finally:
                server.terminate()
                server.wait(timeout=20)


SCHEDULE = """
import time
from prefect import flow
from prefect.client.orchestration import get_client

@flow
def nothing() -> int:
    return 41 + 1

def wait_for(client, seconds=60):
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        try:
            return client.hello()
        except Exception:
            time.sleep(0.25)
    raise TimeoutError("the server does not answer")

with get_client(sync_client=True) as client:
    wait_for(client)
    print("ran", nothing())
    nothing.to_deployment("every-minute", cron="* * * * *").apply()
    for _ in range(120):
        names = [run.state.name for run in client.read_flow_runs() if run.deployment_id]
        if names:
            break
        time.sleep(0.25)
    print("scheduled", len(names), set(names))
"""


@pytest.mark.process
@pytest.mark.slow
def test_fastapi_and_sqlalchemy_let_a_flow_run_and_a_schedule_fire(prefect_server, tmp_path):
    """A flow runs (fastapi 0.155: no server starts) and cron makes scheduled runs (sqlalchemy 2.1: silently none)."""
    environment, log = prefect_server
    (tmp_path / "scheduled.py").write_text(SCHEDULE)
    command = [sys.executable, str(tmp_path / "scheduled.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    output = f"{done.stdout}\n{done.stderr[-3000:]}\n{Path(log).read_text()[-3000:]}"
    assert "ran 42" in done.stdout, output
    assert "scheduled" in done.stdout, output
    assert "scheduled 0" not in done.stdout, output
