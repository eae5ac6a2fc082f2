"""What Prometheus reads: by scenario and phase, with buckets for a ranker, added up over the workers."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.values import MutexValue

from serving.ranking.result import Ranked
from serving.telemetry.prometheus import SECONDS, Metrics
from tests.serving.test_package import ROOT, serving, wait_until_ready
from tests.support import tiny_project

SCENARIOS = ("feed", "search")


class Log:
    """The counters of a log of what was served, and of who takes new models."""

    written, missed, failed, reloads, failures = 0, 0, 0, 0, 0


def ranked(items: int = 20, **changes: Any) -> Ranked:
    """What a ranker says of `items` items."""
    values = np.linspace(0.1, 0.9, items)
    facts = {
        "items": list(range(items)),
        "scores": values,
        "probabilities": {"click": values},
        "model": "a",
        "data_date": None,
        "considered": items,
        "unknown_user": False,
        "unknown_items": [],
        "seconds": {"features": 0.001, "encode": 0.002, "model": 0.004},
    }
    return Ranked(**facts | changes)


def read(page: str | bytes) -> dict[tuple, float]:
    """The samples of a page, by name and labels."""
    text = page if isinstance(page, str) else page.decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def sample(page: str | bytes, name: str, **labels: str) -> float:
    """One sample of a page."""
    return read(page)[(name, *sorted(labels.items()))]


@pytest.fixture
def log() -> Log:
    """Counters at 0."""
    return Log()


@pytest.fixture
def metrics(log: Log, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Metrics of their own, in memory: BentoML's plugin of pytest lets all tests share the files of one process."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr("prometheus_client.values.ValueClass", MutexValue)
    return Metrics(SCENARIOS, log, log)


def test_each_phase_and_the_whole_are_timed_by_scenario(metrics: Metrics) -> None:
    """In seconds, in buckets from 0.5 ms to 250 ms."""
    metrics.ranked("feed", ranked())
    page = metrics.page()
    for phase, seconds in {"features": 0.001, "encode": 0.002, "model": 0.004, "whole": 0.007}.items():
        assert sample(page, "hinet_seconds_sum", scenario="feed", phase=phase) == pytest.approx(seconds)
    assert sample(page, "hinet_seconds_count", scenario="search", phase="whole") == 0
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 0.25)


def test_shares_are_counted_over_what_they_are_shares_of(metrics: Metrics) -> None:
    """Unknown users and items, rows that are too old, degraded answers by reason without its details."""
    metrics.ranked("feed", ranked(unknown_user=True, unknown_items=[3, 4], stale={"item": 5}))
    metrics.ranked("feed", ranked(degraded="store: no answer within 50 ms"))
    page = metrics.page()
    found = {
        name: sample(page, f"hinet_{name}_total", scenario="feed")
        for name in ("items", "unknown_items", "unknown_users")
    }
    assert found == {"items": 40, "unknown_items": 2, "unknown_users": 1}
    assert sample(page, "hinet_stale_rows_total", scenario="feed", view="item") == 5
    assert sample(page, "hinet_degraded_total", scenario="feed", reason="store") == 1
    assert sample(page, "hinet_candidates_sum", scenario="feed") == 40


@pytest.mark.parametrize("items", [0, 1, 4, 5, 6, 9, 10, 11, 1000])
def test_scores_are_sampled_evenly(metrics: Metrics, items: int) -> None:
    """Five of an answer, or all that it has."""
    metrics.ranked("feed", ranked(items))
    assert sample(metrics.page(), "hinet_score_count", scenario="feed") == min(items, 5)


def test_the_model_that_answers_is_the_one_that_is_shown(metrics: Metrics) -> None:
    """After another one was taken into use, the one before is 0."""
    for tag in ("a", "b"):
        metrics.ranked("feed", ranked(model=tag))
    page = metrics.page()
    assert [sample(page, "hinet_model", tag=tag) for tag in ("a", "b")] == [0, 1]


def test_what_the_log_lost_is_counted(metrics: Metrics, log: Log) -> None:
    """Once, although it is looked at again and again; and so are new models."""
    log.reloads = 2
    log.failed, log.missed = 3, 2
    metrics.page()
    page = metrics.page()
    assert sample(page, "hinet_log_requests_total", outcome="failed") == 3
    assert sample(page, "hinet_log_requests_total", outcome="missed") == 2
    assert sample(page, "hinet_reloads_total", outcome="taken") == 2


def test_counting_a_ranking_costs_little(metrics: Metrics) -> None:
    """Under 0.2 ms for 1,000 items, in the best of some hundred."""
    answer, taken = ranked(1000), []
    for _ in range(300):
        started = time.perf_counter()
        metrics.ranked("feed", answer)
        taken.append(time.perf_counter() - started)
    assert min(taken) < 2e-4


def test_paths_that_nobody_serves_make_no_series(client: Any) -> None:
    """A scan of a thousand paths is one series."""
    for number in range(20):
        client.get(f"/{number}")
    paths = {dict(key[1:]).get("path") for key in read(client.get("/metrics").text)} - {None}
    assert paths <= {"/", "/rank", "/rank_batch", "/model", "/metrics", "/docs.json", "other"}


@pytest.fixture(scope="module")
def two_workers(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """A server with two workers, and the home of BentoML."""
    home = tmp_path_factory.mktemp("home")
    sources = {"HINET_MODEL": project / tiny_project.MODEL, "HINET_ONLINE_STORE": project / tiny_project.ONLINE}
    with serving([], ROOT, home, sources | {"HINET_WORKERS": Path("2")}) as client:
        wait_until_ready(client)
        yield client, home


@pytest.mark.slow
def test_two_workers_are_one_page(two_workers: tuple[httpx.Client, Path]) -> None:
    """Whichever answers: every request of both is counted, and both had some."""
    client, home = two_workers
    body = {"user_id": 1, "scenario": "search", "candidates": [1, 2, 3]}
    for _ in range(60):
        assert httpx.post(f"{client.base_url}/rank", json=body, timeout=60).status_code == 200
    pages = [httpx.get(f"{client.base_url}/metrics", timeout=60).text for _ in range(8)]
    assert {sample(page, "hinet_requests_total", path="/rank", status="200") for page in pages} == {60}
    assert {sample(page, "hinet_seconds_count", scenario="search", phase="whole") for page in pages} == {60}
    counted = [
        path for path in (home / "prometheus_multiproc_dir").glob("counter_*.db") if b"/rank" in path.read_bytes()
    ]
    assert len(counted) == 2
