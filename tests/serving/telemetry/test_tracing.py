"""OpenTelemetry tracing: a span for a ranking and one for each phase, in the caller's trace; off by default."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.errors import ParameterError
from common.serve_params import ServeTracing
from serving.telemetry.tracing import Tracing, open_tracing
from tests.support.serving import SERVE, VALID, api_in_front_of, call, ranking

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
pytestmark = pytest.mark.integration


class TracedRanker:
    """A ranker with the observer `tracing`, whose phases take 7 ms."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracing = tracing

    def rank(self, request: Any) -> Any:
        """A result of 20 items."""
        result = ranking(20)
        self.tracing.ranked(request, result)
        return result


def spans_of_a_request(sample: float, headers: dict[str, str]) -> list[ReadableSpan]:
    """The spans of one request with these headers."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(sample, exporter)
    app = api_in_front_of(TracedRanker(tracing))
    app.api.tracing = tracing
    assert call(app, lambda c: c.post("/rank", json=VALID, headers=headers)).status_code == 200
    tracing.close()
    return list(exporter.get_finished_spans())


def test_the_phases_are_children_of_the_ranking() -> None:
    """They follow one another with their durations; the ranking's span has scenario, candidates, model, degraded."""
    *phases, whole = spans_of_a_request(1.0, {})
    assert [span.name for span in (*phases, whole)] == ["features", "encode", "model", "rank"]
    assert [round((span.end_time - span.start_time) / 1e6) for span in (*phases, whole)] == [1, 2, 4, 7]
    assert [span.start_time for span in phases[1:]] == [span.end_time for span in phases[:-1]]
    assert all(span.parent.span_id == whole.context.span_id for span in phases)
    assert dict(whole.attributes) == {
        "hinet.scenario": "feed",
        "hinet.candidates": 20,
        "hinet.model": "a",
        "hinet.degraded": "",
    }


def test_a_ranking_belongs_to_the_trace_of_its_caller() -> None:
    """The header `traceparent` names it; a traced caller is always sampled, whatever the share is."""
    *_, whole = spans_of_a_request(1e-9, {"traceparent": CALLER})
    assert f"{whole.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{whole.parent.span_id:016x}" == CALLER.split("-")[2]


def test_only_the_sampled_share_is_exported() -> None:
    """A request without a traced caller is exported with the probability `sample`."""
    assert spans_of_a_request(1e-9, {}) == []


def test_tracing_is_off_by_default() -> None:
    """params.yaml names no exporter; with the exporter `console` tracing opens."""
    assert open_tracing(SERVE.tracing) is None
    opened = open_tracing(ServeTracing(exporter="console", sample=1.0))
    assert opened is not None
    opened.close()


def test_an_exporter_that_is_not_installed_is_named() -> None:
    """The message has the command that installs its package."""
    with pytest.raises(ParameterError, match="pip install opentelemetry-exporter-otlp-proto-http"):
        open_tracing(ServeTracing(exporter="otlp", sample=1.0))
