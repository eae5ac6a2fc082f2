"""The commands of docs/how-to/feast.md, typed as the page has them."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pandas as pd
import pytest

from common.paths import ROOT
from features.store.item_snapshot import item_snapshot_path
from tests.support.chromium import PROGRAM, browser
from tests.support.dvc_project import commands, copy_code, environment, free_port, typed
from tests.support.feast_repository import write_repository
from tests.support.postgres_process import PASSWORD, postgres_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]

PAGE = ROOT / "docs" / "how-to" / "feast.md"
ONLINE = Path("artifacts/online.db")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the project, and the tiny world after the pipeline."""
    made = write_repository(tmp_path_factory.mktemp("feast") / "project")
    copy_code(made)
    return made


def typed_in(folder: Path, block: str) -> str:
    """What a block prints in a project; without colours."""
    return re.sub(r"\x1b\[\d*m", "", typed(block, folder, PYTHONPATH=str(folder)))


@contextmanager
def started(folder: Path, block: str, address: str) -> Iterator[None]:
    """A server that a block starts, until the block of this function ends."""
    command = ["bash", "-c", f"exec {block}"]
    server = subprocess.Popen(
        command, cwd=folder, env=environment(PYTHONPATH=str(folder)), stdout=subprocess.DEVNULL, start_new_session=True
    )

    def answers() -> bool:
        assert server.poll() is None, "the server has ended"
        try:
            return httpx.get(address, timeout=20).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, seconds=240)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


def test_the_definitions_are_shown_and_applied(folder: Path) -> None:
    """Nothing is to be done after the pipeline; views, service and entities are listed; no output changes."""
    before = (folder / ONLINE).read_bytes()
    show, apply, _ = commands("Look at the definitions", PAGE)
    shown = typed_in(folder, show)
    assert "No changes to registry\nNo changes to infrastructure" in shown
    assert re.search(r"user_in_scenario +\{.*\} +FeatureView +Yes +AVAILABLE_ONLINE", shown)
    assert re.search(r"ranking +user:city", shown)
    applied = typed_in(folder, apply)
    assert "No changes to registry\nNo changes to infrastructure" in applied
    assert re.search(r"item_id +ValueType.INT64", applied)
    assert (folder / ONLINE).read_bytes() == before


def test_the_catalogue_is_shown_in_a_browser(folder: Path, tmp_path: Path) -> None:
    """The page of Feast lists views, entities and the service of the registry."""
    *_, command = commands("Look at the definitions", PAGE)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with started(folder, f"{command.strip()} --port {port}", address):
        if PROGRAM is None:
            pytest.skip("no Chromium")
        for kind, name in (
            ("feature-view", "user_in_scenario"),
            ("entity", "scenario"),
            ("feature-service", "ranking"),
        ):
            with browser() as tab:
                tab.call("Page.navigate", url=f"{address}/p/hinet/{kind}")
                wait_until(lambda tab=tab, name=name: name in str(tab.run("document.body?.innerText")), seconds=60)


def test_features_are_served_over_http(folder: Path) -> None:
    """The feature server answers with the newest values of the offline store."""
    start, request = commands("Serve features over HTTP", PAGE)
    port = str(free_port())
    with started(folder, start.replace("6566", port).strip(), f"http://127.0.0.1:{port}/health"):
        answer = json.loads(typed_in(folder, request.replace("6566", port).replace("42", "4")))
    named = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    for name, view, key, value in (("user_impressions_7d", "user", "user_id", 4), ("price", "item", "item_id", 7)):
        rows = pd.read_parquet(folder / f"data/features/{view}.parquet").query(f"{key} == {value}")
        assert named[name]["values"] == [pytest.approx(rows.sort_values("event_timestamp")[name].iloc[-1])]


def test_an_increment_without_news_writes_nothing(folder: Path) -> None:
    """The transcript of the page; the outputs of the stage stay the same to the byte."""
    outputs = [folder / ONLINE, item_snapshot_path(folder / ONLINE)]
    before = [path.read_bytes() for path in outputs]
    (block,) = commands("Materialize", PAGE)
    assert "user: 0 rows written\nitem: 0 rows written\nuser_in_scenario: 0 rows written\n" in typed_in(folder, block)
    assert [path.read_bytes() for path in outputs] == before


def test_the_registry_is_in_postgresql(folder: Path) -> None:
    """Applied once, it is kept up by the refresh."""
    setup, refresh = commands("A registry in PostgreSQL", PAGE)
    with postgres_server("feast") as port:
        setup = setup.replace("5432/feast", f"{port}/postgres").replace("secret", PASSWORD)
        exports = "".join(f"{line}\n" for line in setup.splitlines() if line.startswith("export"))
        assert "Created feature service ranking" in typed_in(folder, setup)
        refreshed = typed_in(folder, exports + refresh)
    assert "user: 12 rows written" in refreshed
    assert refreshed.endswith("No changes to registry\nNo changes to infrastructure\n")
