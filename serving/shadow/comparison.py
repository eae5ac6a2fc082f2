"""The comparison of two answers to one request: rank correlation, score shift, rows of a log, metrics."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.ranking.request import RankRequest
from serving.ranking.result import Floats, RankingResult
from serving.telemetry.impression_log import entry_columns
from serving.telemetry.prometheus import SECONDS

CORRELATION = (-0.5, 0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
SHIFT = (-1, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
MIN_ITEMS = 3  # of a rank correlation


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The answers of the model in use and of the shadow model, by item [N] in the order of the first.

    `probabilities` are pairs of [N] by output; `models` are tags; `seconds` are of the rankings.
    """

    keys: dict[str, Any]
    items: list[Any]
    scores: Floats
    shadow_scores: Floats
    probabilities: dict[str, tuple[Floats, Floats]]
    models: tuple[str, str]
    seconds: tuple[float, float]

    @property
    def correlation(self) -> float | None:
        """Spearman's rank correlation of the scores; None for fewer than MIN_ITEMS items and for constant scores."""
        if len(self.items) < MIN_ITEMS or min(np.ptp(self.scores), np.ptp(self.shadow_scores)) == 0:
            return None
        first, second = (np.argsort(np.argsort(s)) - (len(s) - 1) / 2 for s in (self.scores, self.shadow_scores))
        return float(first @ second / (first @ first))  # both are permutations of the same numbers

    @property
    def shift(self) -> float:
        """The mean score of the shadow model minus that of the model in use."""
        return float(np.mean(self.shadow_scores - self.scores))

    def table(self, request_id: str, served_at: datetime) -> pa.Table:
        """The rows of the log, in the order of the first answer."""
        count = len(self.items)
        columns = entry_columns(count, request_id, served_at)
        columns |= {name: value if isinstance(value, list) else [value] * count for name, value in self.keys.items()}
        columns |= {"score": self.scores, "shadow_score": self.shadow_scores}
        for output, (probabilities, shadow_probabilities) in self.probabilities.items():
            columns |= {f"score_{output}": probabilities, f"shadow_score_{output}": shadow_probabilities}
        for name, tag in zip(("model_tag", "shadow_tag"), self.models, strict=True):
            columns[name] = [tag] * count
        for name, seconds in zip(("seconds", "shadow_seconds"), self.seconds, strict=True):
            columns[name] = [seconds] * count
        return pa.table(columns)


def compare(request: RankRequest, answer: dict[str, Any], shadow: RankingResult, keys: dict[str, str]) -> Comparison:
    """Compare an answer with the shadow model's on their common items.

    `keys` are the column names of user, scenario and item.
    """
    shadow_index = {item: index for index, item in enumerate(shadow.items)}
    common = [index for index, item in enumerate(answer["items"]) if item in shadow_index]
    items = [answer["items"][index] for index in common]
    in_shadow = [shadow_index[item] for item in items]
    probabilities = {
        name: (np.array(answer["probabilities"][name])[common], values[in_shadow])
        for name, values in shadow.probabilities.items()
        if name in answer["probabilities"]
    }
    return Comparison(
        keys={keys["user"]: request.user_id, keys["scenario"]: request.scenario, keys["item"]: items},
        items=items,
        scores=np.array(answer["scores"])[common],
        shadow_scores=shadow.scores[in_shadow],
        probabilities=probabilities,
        models=(answer["model"], shadow.model),
        seconds=(answer["seconds"], sum(shadow.seconds.values())),
    )


class ShadowMetrics:
    """The metrics of the shadow model for Prometheus, by scenario."""

    def __init__(self) -> None:
        by, self.registry = ["scenario"], CollectorRegistry()
        self.seconds = Histogram(
            "hinet_shadow_seconds", "Of a ranking by the shadow model", by, buckets=SECONDS, registry=self.registry
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
            "Mean score of the shadow model minus that of the model in use",
            by,
            buckets=SHIFT,
            registry=self.registry,
        )
        self.requests = Counter("hinet_shadow_requests", "Of the shadow model", ["outcome"], registry=self.registry)
        self.model = Gauge(
            "hinet_shadow_model", "1: the shadow model", ["tag"], multiprocess_mode="livemax", registry=self.registry
        )

    def compared(self, scenario: str, comparison: Comparison) -> None:
        """Count a comparison."""
        self.requests.labels("compared").inc()
        self.seconds.labels(scenario).observe(comparison.seconds[1])
        if comparison.correlation is not None:
            self.correlation.labels(scenario).observe(comparison.correlation)
        if comparison.items:
            self.shift.labels(scenario).observe(comparison.shift)
        self.model.labels(comparison.models[1]).set(1)
