"""OpenTelemetry tracing: a span for each sampled ranking and for each of its phases, if params.serve.tracing is set."""

import contextlib
import time
from collections.abc import Iterator, Mapping

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from common.errors import ParameterError
from common.serve_params import ServeTracing
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult, ScoredCandidates

NANO = 1_000_000_000
MAX_HEADER = 1024  # characters of a header that is kept with the spans; W3C's tracestate has 512


class Tracing:
    """Exports spans of the share `sample` of the rankings to `exporter`, in a background thread."""

    def __init__(self, sample: float, exporter: SpanExporter) -> None:
        self.provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(sample), resource=Resource.create({SERVICE_NAME: "hinet"})
        )
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("hinet")

    @contextlib.contextmanager
    def joined(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Spans of the block belong to the trace that the header `traceparent` names, if there is one."""
        short = {name: value for name, value in headers.items() if len(value) <= MAX_HEADER}
        token = context.attach(propagate.extract(short))
        try:
            yield
        finally:
            context.detach(token)

    def ranked(self, request: RankRequest, result: RankingResult, _: ScoredCandidates | None = None) -> None:
        """Record a ranking that has just ended, and its consecutive phases (a ranking observer)."""
        start = time.time_ns() - round(NANO * sum(result.seconds.values()))
        attributes: dict[str, str | int] = {
            "hinet.scenario": request.scenario,
            "hinet.candidates": result.considered,
            "hinet.model": result.model,
            "hinet.degraded": result.degraded or "",
        }
        ranking = self.tracer.start_span("rank", attributes=attributes, start_time=start)
        parent = trace.set_span_in_context(ranking)
        for phase, seconds in result.seconds.items():
            span = self.tracer.start_span(phase, parent, start_time=start)
            start += round(NANO * seconds)
            span.end(start)
        ranking.end(start)

    def close(self) -> None:
        """Export the spans that are not exported yet."""
        self.provider.shutdown()


def open_tracing(settings: ServeTracing) -> Tracing | None:
    """The tracing that params.yaml names, or None; raises ParameterError if the exporter's package is not installed."""
    if settings.exporter is None:
        return None
    if settings.exporter == "console":
        return Tracing(settings.sample, ConsoleSpanExporter())
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ParameterError(
            "serve.tracing.exporter is otlp, but its package is not installed: "
            "pip install opentelemetry-exporter-otlp-proto-http"
        ) from error
    return Tracing(settings.sample, OTLPSpanExporter())  # its address: OTEL_EXPORTER_OTLP_ENDPOINT
