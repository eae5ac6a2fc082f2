"""The metrics for Prometheus: by scenario and phase, with buckets for a ranker, summed over the workers."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.values import MutexValue

from common.paths import ROOT
from serving.telemetry.prometheus import SECONDS, ServiceMetrics
from tests.support import tiny_project
from tests.support.service_process import bentoml_serve, wait_until_ready
from tests.support.serving import ranking, sample, samples

SCENARIOS = ("feed", "search")
FEED = SimpleNamespace(scenario="feed")  # what the metrics read of a request
pytestmark = pytest.mark.integration


class Counts:
    """The counts of an impression log and of hot reload."""

    written, missed, failed, reloads, failures = 0, 0, 0, 0, 0


@pytest.fixture
def counts() -> Counts:
    """Counts at 0."""
    return Counts()


@pytest.fixture
def metrics(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> ServiceMetrics:
    """Metrics in memory: BentoML's pytest plugin would share the files of one process among all tests."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr("prometheus_client.values.ValueClass", MutexValue)
    return ServiceMetrics(SCENARIOS, counts, counts)


def test_each_phase_and_their_sum_are_timed_by_scenario(metrics: ServiceMetrics) -> None:
    """Durations are in seconds, in buckets from 0.5 ms to 250 ms."""
    metrics.ranked(FEED, ranking())
    page = metrics.page()
    for phase, seconds in {"features": 0.001, "encode": 0.002, "model": 0.004, "whole": 0.007}.items():
        assert sample(page, "hinet_seconds_sum", scenario="feed", phase=phase) == pytest.approx(seconds)
    assert sample(page, "hinet_seconds_count", scenario="search", phase="whole") == 0
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 0.25)


def test_unknown_outdated_and_degraded_are_counted_next_to_their_totals(metrics: ServiceMetrics) -> None:
    """Unknown users and items, outdated rows, and degraded answers by reason without its details."""
    metrics.ranked(FEED, ranking(unknown_user=True, unknown_items=[3, 4], outdated={"item": 5}))
    metrics.ranked(FEED, ranking(degraded="store: no answer within 50 ms"))
    page = metrics.page()
    totals = {
        name: sample(page, f"hinet_{name}_total", scenario="feed")
        for name in ("items", "unknown_items", "unknown_users")
    }
    assert totals == {"items": 40, "unknown_items": 2, "unknown_users": 1}
    assert sample(page, "hinet_stale_rows_total", scenario="feed", view="item") == 5
    assert sample(page, "hinet_degraded_total", scenario="feed", reason="store") == 1
    assert sample(page, "hinet_candidates_sum", scenario="feed") == 40


@pytest.mark.parametrize("items", [0, 1, 4, 5, 6, 9, 10, 11, 1000])
def test_five_scores_of_an_answer_are_observed(metrics: ServiceMetrics, items: int) -> None:
    """Evenly spaced by rank; all of them where the answer has fewer."""
    metrics.ranked(FEED, ranking(items))
    assert sample(metrics.page(), "hinet_score_count", scenario="feed") == min(items, 5)


def test_the_model_in_use_is_shown(metrics: ServiceMetrics) -> None:
    """After a hot reload the new tag is 1 and the tag before is 0."""
    for tag in ("a", "b"):
        metrics.ranked(FEED, ranking(model=tag))
    page = metrics.page()
    assert [sample(page, "hinet_model", tag=tag) for tag in ("a", "b")] == [0, 1]


def test_an_ab_test_is_counted_by_arm(metrics: ServiceMetrics) -> None:
    """Rankings by arm, and those of the champion in place of the challenger; the model in use is the champion."""
    metrics.ranked(FEED, ranking(model="a", arm="champion"))
    metrics.ranked(FEED, ranking(model="b", arm="challenger"))
    metrics.ranked(
        FEED, ranking(model="a", arm="challenger", replaced="failed", degraded="challenger: it is not loaded")
    )
    metrics.ranked(FEED, ranking(model="a", arm="challenger", replaced="late", degraded="challenger: no answer"))
    page = metrics.page()
    outcomes = [("champion", "own"), *(("challenger", outcome) for outcome in ("own", "replaced", "late"))]
    for arm, outcome in outcomes:
        assert sample(page, "hinet_ab_rankings_total", scenario="feed", arm=arm, outcome=outcome) == 1
    assert sample(page, "hinet_ab_seconds_count", arm="challenger") == 3
    assert (sample(page, "hinet_model", tag="a"), sample(page, "hinet_ab_challenger", tag="b")) == (1, 1)
    assert ("hinet_model", ("tag", "b")) not in samples(page)
    assert sample(page, "hinet_degraded_total", scenario="feed", reason="challenger") == 2


def test_counts_of_log_and_reloads_are_copied_once(metrics: ServiceMetrics, counts: Counts) -> None:
    """Reading the page again does not count lost requests and new models again."""
    counts.reloads = 2
    counts.failed, counts.missed = 3, 2
    metrics.page()
    page = metrics.page()
    assert sample(page, "hinet_log_requests_total", outcome="failed") == 3
    assert sample(page, "hinet_log_requests_total", outcome="missed") == 2
    assert sample(page, "hinet_reloads_total", outcome="taken") == 2


def test_unknown_paths_share_one_series(client: Any) -> None:
    """A scan of many paths does not make a series for each."""
    for number in range(20):
        client.get(f"/{number}")
    paths = {dict(key[1:]).get("path") for key in samples(client.get("/metrics").text)} - {None}
    assert paths <= {"/", "/rank", "/rank_batch", "/model", "/metrics", "/docs.json", "other"}


@pytest.fixture(scope="module")
def two_workers(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """A server with two workers, and its BENTOML_HOME."""
    home = tmp_path_factory.mktemp("home")
    sources = {"HINET_MODEL": project / tiny_project.MODEL, "HINET_ONLINE_STORE": project / tiny_project.ONLINE}
    with bentoml_serve([], ROOT, home, **sources, HINET_WORKERS=2) as client:
        wait_until_ready(client)
        yield client, home


@pytest.mark.slow
def test_the_page_sums_over_the_workers(two_workers: tuple[httpx.Client, Path]) -> None:
    """Whichever worker answers /metrics, every request of both is counted, and both had requests."""
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
