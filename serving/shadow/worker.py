"""The process of the second model: ranks what was ranked already, and compares; see serving/shadow/client.py.

A JSON line on standard input is a request and what was answered to it. The comparison goes into the metrics, which
Prometheus finds at /metrics of the service, and, if there is a folder for them, into rows of their own.
"""

import logging
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common import params, stage
from common.params import Serve
from common.paths import ROOT
from serving.ranking.feature_client import patient
from serving.ranking.hot_reload import Reloader
from serving.ranking.loaded_model import Sources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import RankRequest, request_type
from serving.ranking.result import Ranked
from serving.shadow.client import WRITE_AND_END
from serving.telemetry.impression_log import ServedLog
from serving.telemetry.prometheus import SECONDS

CORRELATION = (-0.5, 0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
SHIFT = (-1, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
PATIENCE = 2000.0  # ms for a read of the online store: nobody waits for this process, and it has the lowest priority
FEWEST = 3  # items: the order of fewer says nothing
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two answers to one request, by item [N] in the order of the first; `probabilities` [N] by output, of both."""

    keys: dict[str, Any]
    items: list[Any]
    scores: NDArray[np.float64]
    shadow_scores: NDArray[np.float64]
    probabilities: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    models: tuple[str, str]
    seconds: tuple[float, float]

    @property
    def correlation(self) -> float | None:
        """Spearman's, of the two scores; None where it says nothing."""
        if len(self.items) < FEWEST or min(np.ptp(self.scores), np.ptp(self.shadow_scores)) == 0:
            return None
        one, other = (np.argsort(np.argsort(s)) - (len(s) - 1) / 2 for s in (self.scores, self.shadow_scores))
        return float(one @ other / (one @ one))  # both are the same numbers in some order

    @property
    def shift(self) -> float:
        """The mean score of the second model less that of the first."""
        return float(np.mean(self.shadow_scores - self.scores))

    def table(self, request_id: str, moment: datetime) -> pa.Table:
        """The rows of the log, in the order of the first answer."""
        count = len(self.items)
        columns: dict[str, Any] = {
            "request_id": pa.repeat(request_id, count),
            "served_at": pa.repeat(pa.scalar(moment, pa.timestamp("us")), count),
            "place": pa.array(range(count), pa.int32()),
        }
        columns |= {name: value if isinstance(value, list) else [value] * count for name, value in self.keys.items()}
        columns |= {"score": self.scores, "shadow_score": self.shadow_scores}
        for output, (ours, theirs) in self.probabilities.items():
            columns |= {f"score_{output}": ours, f"shadow_score_{output}": theirs}
        for name, value in zip(("model_tag", "shadow_tag"), self.models, strict=True):
            columns[name] = [value] * count
        for name, seconds in zip(("seconds", "shadow_seconds"), self.seconds, strict=True):
            columns[name] = [seconds] * count
        return pa.table(columns)


def compare(request: RankRequest, answer: dict[str, Any], ranked: Ranked, keys: dict[str, str]) -> Compared:
    """What was answered beside what `ranked` says, on the items that both have; `keys`: the columns of user, .. ."""
    places = {item: place for place, item in enumerate(ranked.items)}
    ours = [place for place, item in enumerate(answer["items"]) if item in places]
    items = [answer["items"][place] for place in ours]
    theirs = [places[item] for item in items]
    values = {keys["user"]: request.user_id, keys["scenario"]: request.scenario, keys["item"]: items}
    both = {
        name: (np.array(answer["probabilities"][name])[ours], found[theirs])
        for name, found in ranked.probabilities.items()
        if name in answer["probabilities"]
    }
    return Compared(
        keys=values,
        items=items,
        scores=np.array(answer["scores"])[ours],
        shadow_scores=ranked.scores[theirs],
        probabilities=both,
        models=(answer["model"], ranked.model),
        seconds=(answer["seconds"], sum(ranked.seconds.values())),
    )


class Metrics:
    """What Prometheus is told of the second model, by scenario."""

    def __init__(self) -> None:
        by, self.registry = ["scenario"], CollectorRegistry()
        self.seconds = Histogram(
            "hinet_shadow_seconds", "Of a ranking by the second model", by, buckets=SECONDS, registry=self.registry
        )
        self.correlation = Histogram(
            "hinet_shadow_rank_correlation",
            "Spearman's, of the scores of both models",
            by,
            buckets=CORRELATION,
            registry=self.registry,
        )
        self.shift = Histogram(
            "hinet_shadow_score_shift",
            "Mean score of the second model less the first's",
            by,
            buckets=SHIFT,
            registry=self.registry,
        )
        self.requests = Counter("hinet_shadow_requests", "Of the second model", ["outcome"], registry=self.registry)
        self.model = Gauge(
            "hinet_shadow_model", "1: the second model", ["tag"], multiprocess_mode="livemax", registry=self.registry
        )

    def compared(self, scenario: str, found: Compared) -> None:
        """Count one comparison."""
        self.requests.labels("compared").inc()
        self.seconds.labels(scenario).observe(found.seconds[1])
        if found.correlation is not None:
            self.correlation.labels(scenario).observe(found.correlation)
        if found.items:
            self.shift.labels(scenario).observe(found.shift)
        self.model.labels(found.models[1]).set(1)


class Second:
    """Answers requests that were answered already, and keeps how the answers differ."""

    def __init__(self, ranker: Ranker, accepted: type[RankRequest], metrics: Metrics, log: ServedLog | None) -> None:
        self.ranker, self.accepted, self.metrics, self.log = ranker, accepted, metrics, log
        self.over = False  # no further request is taken

    def run(self, lines: Iterable[bytes]) -> None:
        """Take the requests of `lines` one after another; what cannot be compared is counted and told."""
        for line in lines:
            if self.over:
                return
            try:
                self.take(orjson.loads(line))
            except Exception as error:  # whatever it is: the next request may be another matter
                self.metrics.requests.labels("not comparable").inc()
                _LOGGER.warning("shadow: a request could not be compared: %s", error)

    def take(self, told: dict[str, Any]) -> Compared | None:
        """Compare one answer with the second model's; not with a degraded one, which is not what that model says."""
        request = self.accepted(**told["request"], k=None)
        ranked, _ = self.ranker.answer(self.ranker.state, request)
        if ranked.degraded:
            self.metrics.requests.labels("degraded").inc()
            return None
        schema = self.ranker.state.schema
        keys = {"user": schema.user, "scenario": schema.scenario, "item": schema.item}
        found = compare(request, told["answer"], ranked, keys)
        self.metrics.compared(request.scenario, found)
        if self.log is not None and found.items:
            self.log.add(found)
        return found


def second(*, model: Path, online: Path, redis: str | None = None, folder: Path | None = None) -> None:
    """Read requests from standard input until it ends, and compare the model in `model` with what was answered.

    Both answers are kept in `folder`. Whoever stops the service stops what it started, too: this process ends with its
    input, when everything is written; told to hurry (SIGUSR1), it leaves what it has not read.
    """
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)
    settings = patient(params.load(ROOT / "params.yaml").serve, PATIENCE)
    with TemporaryDirectory(prefix="hinet-shadow-") as scratch:
        sources = Sources(model, online, Path(scratch) / "registry.db", redis)
        ranker = open_ranker(sources, settings)
        reloader, log = Reloader(ranker, sources, settings), _open_log(settings, folder)
        reloader.start()
        accepted = request_type(ranker.state.schema, settings, ranker.state.model.views)
        taken = Second(ranker, accepted, Metrics(), log)
        signal.signal(WRITE_AND_END, lambda *_: setattr(taken, "over", True))
        taken.run(sys.stdin.buffer)
        reloader.close()
        ranker.state.users.close()
        if log is not None:
            log.close()


def _open_log(settings: Serve, folder: Path | None) -> ServedLog | None:
    if folder is None:
        return None
    log = settings.log
    return ServedLog(folder=folder, sample=1, rows_per_file=log.rows_per_file, seconds=log.seconds)


if __name__ == "__main__":
    stage.run(second)
