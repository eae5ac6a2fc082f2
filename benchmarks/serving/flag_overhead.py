"""Rankings with and without their `unknown` flags in one process: see benchmarks/serving/unknown_flags.py."""

import json as text
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bodies import sample_requests
from common import params
from common.files import write_text
from common.paths import PARAMS, ROOT
from serving.http.response import ranking_json
from serving.ranking import ranker as ranking
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import request_type

WARM_UP = 10
FLAGS = "_unknown_columns"  # the function of a ranking that finds them


def run(json: Path, *, model: Path, online: Path, candidates: tuple[int, ...], rounds: int) -> None:
    """Time the requests, print the table and write it to `json`."""
    with TemporaryDirectory() as scratch:
        sources = ModelSources(model, online, Path(scratch) / "registry.db")
        ranker = open_ranker(sources, params.load(ROOT / PARAMS).serve)
        results = [measure(ranker, count, rounds) for count in candidates]
    write_text(json, text.dumps({"rounds": rounds, "sizes": results}, indent=1) + "\n")
    table = Table("items", "with, us", "without", "difference", "share", "flags", "share")
    for one in results:
        whole, *times = (one[name] for name in ("with", "without", "gap", "flags"))
        cells = [f"{whole:.0f}", f"{times[0]:.0f}", *(f"{time:.1f}|{time / whole:.2%}" for time in times[1:])]
        table.add_row(str(one["candidates"]), *"|".join(cells).split("|"))
    Console().print(table)


def measure(ranker: Ranker, candidates: int, rounds: int) -> dict[str, Any]:
    """Median microseconds of the processor for an answer with and without flags, and for the flags."""
    schema, views = ranker.loaded.schema, ranker.loaded.model.views
    accepted, original = request_type(schema, params.load(ROOT / PARAMS).serve, views), getattr(ranking, FLAGS)
    itself: list[float] = []

    def find(*arguments: Any) -> Any:
        columns, microseconds = _timed(lambda: original(*arguments))
        itself.append(microseconds)
        return columns

    ways = {"with": original, "without": lambda *_: [], "flags": find}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number, request in enumerate(sample_requests(ranker.loaded.model, candidates, rounds + WARM_UP)):
        body = orjson.dumps(request)
        for name in list(ways)[:: 1 if number % 2 else -1]:
            with patch.object(ranking, FLAGS, ways[name]):
                times[name].append(_timed(lambda: ranking_json(ranker.rank(accepted.model_validate_json(body))))[1])  # noqa: B023
    gaps = [one - other for one, other in zip(times["with"], times["without"], strict=True)]
    clock = median(_timed(lambda: None)[1] for _ in range(rounds))  # reading the clock is part of what it measures
    medians = {name: median(part[WARM_UP:]) for name, part in (times | {"gap": gaps, "flags": itself}).items()}
    return {"candidates": candidates, **medians, "flags": medians["flags"] - clock}


def _timed(part: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a part, and the microseconds of the processor that it took."""
    started = time.thread_time_ns()
    result = part()
    return result, (time.thread_time_ns() - started) / 1e3
