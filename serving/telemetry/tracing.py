"""OpenTelemetry: a span for a ranking and one for each of its phases; off unless params.serve.tracing asks for it."""

import contextlib
import time
from collections.abc import Iterator, Mapping

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from common.errors import ParameterError
from common.params import ServeTracing
from serving.ranking.result import Ranked

NANO = 1_000_000_000


class Tracing:
    """Writes spans of a share of the rankings to `exporter`, in a thread of its own."""

    def __init__(self, share: float, exporter: SpanExporter) -> None:
        self.provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(share), resource=Resource.create({SERVICE_NAME: "hinet"})
        )
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("hinet")

    @contextlib.contextmanager
    def joined(self, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        """What is traced inside belongs to the trace of the caller, if the header `traceparent` names one."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        token = context.attach(propagate.extract(carrier))
        try:
            yield
        finally:
            context.detach(token)

    def ranked(self, scenario: str, ranked: Ranked) -> None:
        """The spans of a ranking that ended just now: its phases, one after another."""
        moment = time.time_ns() - round(NANO * sum(ranked.seconds.values()))
        about: dict[str, str | int] = {
            "hinet.scenario": scenario,
            "hinet.candidates": ranked.considered,
            "hinet.model": ranked.model,
            "hinet.degraded": ranked.degraded or "",
        }
        whole = self.tracer.start_span("rank", attributes=about, start_time=moment)
        inside = trace.set_span_in_context(whole)
        for phase, seconds in ranked.seconds.items():
            span = self.tracer.start_span(phase, inside, start_time=moment)
            moment += round(NANO * seconds)
            span.end(moment)
        whole.end(moment)

    def close(self) -> None:
        """Send what waits."""
        self.provider.shutdown()


def open_tracing(settings: ServeTracing) -> Tracing | None:
    """The tracing that params.yaml asks for, or None; raises ParameterError where the exporter is not installed."""
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
    return Tracing(settings.sample, OTLPSpanExporter())  # where to: OTEL_EXPORTER_OTLP_ENDPOINT
