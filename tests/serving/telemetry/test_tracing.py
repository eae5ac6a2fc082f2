"""OpenTelemetry: a span for a ranking and one for each phase, in the caller's trace; off by default."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common import params
from common.paths import ROOT
from common.serve_params import ServeTracing
from serving.http.middleware import Front
from serving.telemetry.tracing import Tracing, open_tracing
from tests.serving.http.test_middleware import VALID, Counts, ask, front
from tests.serving.telemetry.test_prometheus import ranked

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Timed(Counts):
    """A ranker that says how long its phases took."""

    def rank(self, request: Any) -> Any:
        """As if it had taken 7 ms."""
        return ranked()


def traced(share: float, headers: dict[str, str]) -> list[ReadableSpan]:
    """The spans of one request."""
    exporter, app = InMemorySpanExporter(), front(Timed())
    app.api.tracing = Tracing(share, exporter)
    assert _post(app, headers) == 200
    app.api.tracing.close()
    return list(exporter.get_finished_spans())


def _post(app: Front, headers: dict[str, str]) -> int:
    return ask(app, lambda c: c.post("/rank", json=VALID, headers=headers)).status_code


def test_the_phases_are_children_of_the_ranking() -> None:
    """One after another, as long as they took, with what the ranking was about."""
    *phases, whole = traced(1.0, {})
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
    """`traceparent` names it; a caller that is traced decides, whatever the share is."""
    *_, whole = traced(1e-9, {"traceparent": CALLER})
    assert f"{whole.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{whole.parent.span_id:016x}" == CALLER.split("-")[2]


def test_only_a_share_is_kept() -> None:
    """Of what no caller traces."""
    assert traced(1e-9, {}) == []


def test_off_is_the_default_and_console_a_choice() -> None:
    """params.yaml says none; the exporters are those of the parameters."""
    assert open_tracing(params.load(ROOT / "params.yaml").serve.tracing) is None
    opened = open_tracing(ServeTracing(exporter="console", sample=1.0))
    assert opened is not None
    opened.close()


def test_an_exporter_that_is_not_installed_is_told() -> None:
    """With the package that brings it."""
    with pytest.raises(params.ParameterError, match="pip install opentelemetry-exporter-otlp-proto-http"):
        open_tracing(ServeTracing(exporter="otlp", sample=1.0))
