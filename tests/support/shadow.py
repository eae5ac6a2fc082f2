"""The worker of the shadow process in this process, and its metrics."""

from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest
from serving.shadow.comparison import ShadowMetrics
from serving.shadow.worker import ShadowWorker
from serving.telemetry.impression_log import ImpressionLog

METRICS = ShadowMetrics()  # one: in a process with shared metrics, values of the same name are the same


def worker_on(ranker: Ranker, accepted: type[RankRequest], log: ImpressionLog | None = None) -> ShadowWorker:
    """The worker of the shadow process, with `ranker` as its model."""
    return ShadowWorker(ranker, accepted, METRICS, log)


def value(name: str, **labels: str) -> float:
    """A value of the shadow's metrics."""
    return METRICS.registry.get_sample_value(name, labels) or 0.0


def requests_counted(outcome: str) -> float:
    """The requests with this outcome."""
    return value("hinet_shadow_requests_total", outcome=outcome)
