"""The process of the shadow model: ranks requests that were answered already, and compares both answers.

It reads JSON lines on standard input (serving/shadow/protocol.py). Comparisons go into metrics, which Prometheus reads
at /metrics of the service, and into a Parquet log if there is a folder for it.
"""

import logging
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from common import params, stage
from common.paths import PARAMS, ROOT
from common.serve_params import Serve
from serving.ranking.feature_client import with_read_timeout
from serving.ranking.hot_reload import Reloader
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import RankRequest, request_type
from serving.shadow.comparison import Comparison, ShadowMetrics, compare
from serving.shadow.protocol import WRITE_AND_END, decode_line
from serving.telemetry.impression_log import ImpressionLog

READ_TIMEOUT = 2000.0  # ms for a read of the online store: no caller waits, and the process has the lowest priority
MAX_REASON = 500  # characters of an error in the log: pydantic's repeat the request
_LOGGER = logging.getLogger(__name__)


class ShadowWorker:
    """Answers requests again with the shadow model, and records how the answers differ."""

    def __init__(
        self, ranker: Ranker, accepted: type[RankRequest], metrics: ShadowMetrics, log: ImpressionLog | None
    ) -> None:
        self.ranker, self.accepted, self.metrics, self.log = ranker, accepted, metrics, log
        self.ending = False  # no further line is read

    def run(self, lines: Iterable[bytes]) -> None:
        """Compare the requests of `lines` one after another; a line that cannot be compared is counted and logged."""
        for line in lines:
            if self.ending:
                return
            try:
                self.compare(line)
            except Exception as error:  # the next line may be in order
                self.metrics.requests.labels("not comparable").inc()
                _LOGGER.warning("shadow: a request could not be compared: %s", str(error)[:MAX_REASON])

    def compare(self, line: bytes) -> Comparison | None:
        """Compare an answer with the shadow model's; None if that is degraded, so that it is not the model's own."""
        body, answer = decode_line(line)
        request = self.accepted(**body, k=None)
        loaded = self.ranker.loaded
        result, _ = self.ranker.rank_with(loaded, request)
        if result.degraded:
            self.metrics.requests.labels("degraded").inc()
            return None
        keys = {"user": loaded.schema.user, "scenario": loaded.schema.scenario, "item": loaded.schema.item}
        comparison = compare(request, answer, result, keys)
        self.metrics.compared(request.scenario, comparison)
        if self.log is not None and comparison.items:
            self.log.add(comparison)
        return comparison


def shadow(
    *, model: Path, online: Path, redis: str | None = None, events: Path | None = None, folder: Path | None = None
) -> None:
    """Compare the model in `model` with the answers on standard input, until it ends.

    Both answers are kept in `folder`. SIGTERM and SIGINT are ignored: whoever stops the service may signal the whole
    process group, but this process ends with its input, when everything is written. After SIGUSR1 it drops the lines
    that it has not read.
    """
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)
    settings = with_read_timeout(params.load(ROOT / PARAMS).serve, READ_TIMEOUT)
    with TemporaryDirectory(prefix="hinet-shadow-") as scratch:
        sources = ModelSources(model, online, Path(scratch) / "registry.db", redis, events)
        ranker = open_ranker(sources, settings)
        reloader, log = Reloader(ranker, sources, settings), _open_log(settings, folder)
        reloader.start()
        accepted = request_type(ranker.loaded.schema, settings, ranker.loaded.model.views)
        worker = ShadowWorker(ranker, accepted, ShadowMetrics(), log)
        signal.signal(WRITE_AND_END, lambda *_: setattr(worker, "ending", True))
        worker.run(sys.stdin.buffer)
        reloader.close()
        ranker.loaded.users.close()
        if log is not None:
            log.close()


def _open_log(settings: Serve, folder: Path | None) -> ImpressionLog | None:
    if folder is None:
        return None
    return ImpressionLog(
        folder=folder, sample=1, rows_per_file=settings.log.rows_per_file, seconds=settings.log.seconds
    )


if __name__ == "__main__":
    stage.run(shadow)
