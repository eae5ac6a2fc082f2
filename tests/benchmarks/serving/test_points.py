"""The figures of a load: percentiles, spans, open and closed loops."""

from collections.abc import Iterator
from http.server import HTTPServer, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.serving.points import RunningLoad, measure, percentiles
from benchmarks.serving.servers import Server
from benchmarks.serving.service_benchmark import ServiceBenchmark, Sources
from common.errors import PipelineError
from tests.support.load_outcomes import outcomes
from tests.support.slow_server import SLOW, stand_in

pytestmark = pytest.mark.process


@pytest.fixture
def sequential() -> Iterator[Server]:
    """A server that answers one request after another."""
    with stand_in(HTTPServer) as address:
        yield Server(address, psutil.Process(), Path(), 0.0)


@pytest.fixture
def concurrent() -> Iterator[Server]:
    """A server that answers many requests at once."""
    with stand_in(ThreadingHTTPServer) as address:
        yield Server(address, psutil.Process(), Path(), 0.0)


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    """A file with one body, named as that of 200 candidates."""
    path = tmp_path / "200.jsonl"
    path.write_bytes(b"{}\n")
    return path


def test_percentiles_of_a_known_sample() -> None:
    """Of 0 to 100 in any order: 50, 95, 99 and the longest; without values NaN."""
    sample = np.random.default_rng(0).permutation(101).astype(float)
    assert percentiles(sample) == (50, 95, 99, 100)
    assert percentiles(np.array([7.0])) == (7, 7, 7, 7)
    assert np.isnan(percentiles(np.array([]))).all()


def test_a_request_belongs_to_the_span_of_its_scheduled_departure() -> None:
    """A span contains its beginning and not its end: two adjacent spans share no request."""
    sent = outcomes(scheduled=[0.0, 1.0, 1.5, 2.0], latency=[1.0, 2.0, 3.0, 4.0])
    assert sent.between(1, 2).latency.tolist() == [2, 3]
    assert sum(len(sent.between(start, start + 1).status) for start in range(3)) == 4


def test_an_open_loop_does_not_wait_for_answers(sequential: Server, bodies: Path) -> None:
    """At 60 requests/s to a server of 33/s all leave, and the queue is in the latencies; a closed loop hides it."""
    opened = measure(sequential, bodies, candidates=200, rate=60, seconds=1.5, connections=256)
    assert (opened.requests, opened.errors) == (90, 0)
    assert opened.longest > 1000 * 0.5, "90 answers at 33 a second are there 1.2 s after the last departure"
    assert opened.answers_per_second < 1 / SLOW
    closed = measure(sequential, bodies, candidates=200, rate=None, seconds=1.5, connections=2)
    assert closed.requests <= 1.5 / SLOW + 2
    assert closed.p50 < opened.p50 / 2


def test_no_rate_above_an_overload_is_tried(sequential: Server, bodies: Path, tmp_path: Path) -> None:
    """The first rate of which less than nine tenths are answered is measured, and is the last."""
    sources = Sources(None, tmp_path, tmp_path, tmp_path)  # type: ignore[arg-type]
    benchmark = ServiceBenchmark(sources, tmp_path, seconds=1.5)
    assert [point.rate for point in benchmark.increasing_rates(sequential, {200: (5, 100, 200)})] == [5, 100]


def test_a_load_that_cannot_be_sent_is_an_error(concurrent: Server, bodies: Path) -> None:
    """An error of the generator ends the measurement instead of giving a point of zeros."""
    with pytest.raises(PipelineError, match="the load generator ended with status 1"):
        RunningLoad(concurrent, bodies, rate=-1, seconds=1).__enter__()
