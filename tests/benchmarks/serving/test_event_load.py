"""The benchmark of events: the quantiles of a histogram, and events that the service accepts."""

import asyncio
import os
import subprocess
from pathlib import Path

import orjson
import pytest
import uvicorn
from prometheus_client import start_http_server
from psutil import Process

from benchmarks.serving.event_figures import APPLIED, PEAK, STATUS, lag, latencies, peak_megabytes, samples
from benchmarks.serving.event_load import sample_events
from benchmarks.serving.event_rates import send_all
from benchmarks.serving.servers import Server
from common.errors import PipelineError
from models.model_folder import read_model
from serving.events.event_queue import Entry, EventQueue
from serving.events.event_request import event_type, example_event
from serving.http.event_intake import EventIntake
from serving.http.middleware import ApiMiddleware
from serving.http.routes import RankingApi
from serving.telemetry.event_metrics import EventMetrics
from tests.support import tiny_project, world
from tests.support.load_outcomes import outcomes
from tests.support.serving import ACCEPTED, SERVE, StubRanker

pytestmark = pytest.mark.integration
OWN = Server("", Process(), Path(), 0.0)  # this process


def test_quantiles_are_interpolated_within_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half within 0.05 s, all but 2 % within 0.1 s, these by 0.4 s: p50 and p99 as Prometheus computes them."""
    metrics = EventMetrics()
    monkeypatch.setattr("serving.telemetry.event_metrics.time.time", lambda: 100.0)
    late = [0.03] * 50 + [0.08] * 48 + [0.4] * 2
    metrics.applied([Entry(number, 100.0 - seconds, b"") for number, seconds in enumerate(late)], 0)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=metrics.registry)
    values = samples(Server(f"http://127.0.0.1:{server.server_port}", Process(), Path(), 0.0))
    server.shutdown()
    server.server_close()
    thread.join()
    assert values[APPLIED] == 100
    figures = lag(values)
    assert figures["p50"] == pytest.approx(50)
    assert figures["p99"] == pytest.approx(400)  # half of the bucket from 0.3 to 0.5 s
    assert figures["mean"] == pytest.approx(1e3 * sum(late) / 100)
    assert [figures[f"within_{bound}_s"] for bound in ("0.1", "0.5", "1")] == pytest.approx([0.98, 1, 1])


def test_figures_of_a_load_count_what_failed() -> None:
    """A request without an answer is an error, one without a store degraded; latencies are those of all."""
    figures = latencies(outcomes(latency=[1.0, 2.0, 3.0], status=[200, 503, 200], degraded=[True, False, False]))
    assert figures == {"requests": 3, "errors": 1, "degraded": 1, "p50": 2.0, "p99": pytest.approx(2.98), "longest": 3}


def test_events_are_accepted_and_all_are_different(project: Path) -> None:
    """By the type that the service accepts; the second of each two has a label."""
    model = read_model(project / tiny_project.MODEL)
    accepted = event_type(model.schema)
    parsed = [accepted.model_validate_json(orjson.dumps(event)) for event in sample_events(model, 40, first=100)]
    assert [event.event_id for event in parsed] == list(range(100, 140))
    assert [len(event.labels) for event in parsed] == [0, 1] * 20
    assert len({event.user_id for event in parsed}) > 5


@pytest.mark.skipif(PEAK not in Path(STATUS.format("self")).read_text(), reason=f"this kernel counts no {PEAK}")
def test_the_peak_of_a_process_is_at_least_its_memory() -> None:
    """In the same unit, beside a child that has ended and is not waited for."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert OWN.megabytes()[str(OWN.process.pid)] <= peak_megabytes(OWN) < 1e5


def test_a_kernel_that_counts_no_peak_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of what lacks; the same file with it gives kilobytes."""
    monkeypatch.setattr("benchmarks.serving.event_figures.STATUS", str(tmp_path / "status"))
    status = "Name:\tpython\nVmRSS:\t  1000 kB\n"
    (tmp_path / "status").write_text(status)
    with pytest.raises(PipelineError, match="no VmHWM"):
        peak_megabytes(OWN)
    (tmp_path / "status").write_text(f"{status}VmHWM:\t  2000 kB\n")
    assert peak_megabytes(OWN) == 2.048


def test_a_closed_loop_sends_each_body_once_and_ends_at_the_first_refusal(tmp_path: Path) -> None:
    """To the HTTP layer of the service and a real queue, over three connections."""
    intake = EventIntake(world.schema(), EventQueue(tmp_path), limit=10, text=100)
    api = RankingApi()
    api.open(StubRanker(), ACCEPTED, SERVE, model_info=dict, events=intake)
    events = [example_event(world.schema()) | {"event_id": number} for number in range(40)]
    bodies = [orjson.dumps(events[start : start + 5]) for start in range(0, 40, 5)]

    async def sent(content: list[bytes]) -> list[float]:
        server = uvicorn.Server(uvicorn.Config(ApiMiddleware(api=api), port=0, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        (host, port) = server.servers[0].sockets[0].getsockname()
        try:
            return await send_all(f"http://{host}:{port}/events", content, 3)
        finally:
            server.should_exit = True
            await serving

    assert len(asyncio.run(sent(bodies))) == 8
    assert len(intake.queue.after(0, 100)) == 40
    with pytest.raises(PipelineError, match="expected 200, got 400"):
        asyncio.run(sent([b"{"]))
    intake.close()
