"""Validation, metrics and logging of a request of 1,000 candidates: see benchmarks/serving/per_request.py."""

import json as text
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from common import params
from common.files import write_text
from common.paths import PARAMS, ROOT
from features.datasets.simulation.dataset import declare
from serving.ranking.request import example_request, request_type
from serving.ranking.result import RankingResult, ScoredCandidates
from serving.telemetry.impression_log import ImpressionLog
from serving.telemetry.prometheus import ServiceMetrics

CANDIDATES = 1000
LIMITS = {"validate": 500.0, "metrics": 200.0, "log": 200.0}  # microseconds, of the fastest round


def run(json: Path, rounds: int) -> None:
    """Time each part, print the table and write it to `json`."""
    with TemporaryDirectory() as scratch:
        results = [measure(name, part, rounds) for name, part in _parts(Path(scratch)).items()]
    write_text(json, text.dumps({"candidates": CANDIDATES, "rounds": rounds, "parts": results}, indent=1) + "\n")
    table = Table("part", "fastest us", "median us", "limit us", "reached", title=f"{CANDIDATES:,} candidates")
    for one in results:
        figures = (f"{one[name]:.0f}" for name in ("fastest", "median", "limit"))
        table.add_row(one["part"], *figures, "yes" if one["reached"] else "no")
    Console().print(table)


def measure(name: str, part: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Microseconds of a part, and whether its fastest round is within its limit."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        part()
        times.append((time.perf_counter() - started) * 1e6)
    limit = LIMITS[name]
    return {"part": name, "fastest": min(times), "median": median(times), "limit": limit, "reached": min(times) < limit}


def _parts(scratch: Path) -> dict[str, Callable[[], Any]]:
    settings = params.load(ROOT / PARAMS)
    schema = declare(settings.dataset)
    accepted = request_type(schema, settings.serve)
    body = orjson.dumps(example_request(schema) | {"candidates": list(range(10**6, 10**6 + CANDIDATES))})
    request = accepted.model_validate_json(body)
    result, candidates = _ranking(schema.output_names)
    metrics = ServiceMetrics(schema.scenarios)
    log = ImpressionLog(folder=scratch, sample=1.0, rows_per_file=10**6, seconds=3600.0)
    return {
        "validate": lambda: accepted.model_validate_json(body),
        "metrics": lambda: metrics.ranked(request, result),
        "log": lambda: log.ranked(request, result, candidates),
    }


def _ranking(outputs: tuple[str, ...]) -> tuple[RankingResult, ScoredCandidates]:
    items, scores = list(range(CANDIDATES)), np.linspace(0.9, 0.1, CANDIDATES)
    result = RankingResult(
        items=items,
        scores=scores,
        probabilities=dict.fromkeys(outputs, scores),
        model="tag",
        data_date=None,
        considered=CANDIDATES,
        unknown_user=False,
        unknown_items=[],
        seconds={"features": 0.001, "encode": 0.001, "model": 0.001},
    )
    candidates = ScoredCandidates(
        rows=lambda: pa.table({"hour": np.zeros(CANDIDATES)}),
        keys={},
        outputs=outputs,
        probabilities=np.stack([scores] * len(outputs), axis=1),
        model="tag",
    )
    return result, candidates
