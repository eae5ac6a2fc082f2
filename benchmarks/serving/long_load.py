"""The runs of the soak benchmark: a steady load, and a load while models and snapshots are exchanged."""

import json as text
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bodies import sample_requests, write_bodies
from benchmarks.serving.machine import machine, report_progress, require
from benchmarks.serving.points import Outcomes, RunningLoad, measure, percentiles, share_of_cores, stolen_seconds
from benchmarks.serving.servers import OURS, Server, end_servers_on_sigterm, post, serve
from benchmarks.serving.tables import CLOSED
from benchmarks.serving.variants import Variants
from common.errors import PipelineError
from common.files import write_text
from common.settings import variable
from models.model_folder import Model, read_model

MAX_SLOWDOWN = 1.2  # of the p99, from the first minute to the last
MAX_GROWTH = 1.05  # of a worker's memory, from the first minute to the end
MINUTE = 60.0
WARM_SECONDS, LIMIT_SECONDS = 5.0, 20.0  # of the closed loop
SAMPLE_SECONDS = 5.0  # between two samples of the processes
CANDIDATES = 200
EXCHANGE_BODIES = 10  # different requests under exchanges: each pair answers each one beforehand
EXCHANGE_RATE = 40.0  # requests per second
EXCHANGE_SECONDS = 8.0  # from one exchange to the next: longer than serve.reload_seconds and a reload


def run(
    json: Path, *, model: Path, online: Path, seconds: float, rate: float | None, workers: int, exchanges: int
) -> None:
    """Run a soak, or exchanges; arguments as of the command."""
    require(model, online)
    end_servers_on_sigterm()
    with TemporaryDirectory(prefix="hinet-soak-") as scratch:
        load = LongLoad(read_model(model), model.absolute(), online.absolute(), Path(scratch), workers)
        result = load.exchanges(exchanges, rate or EXCHANGE_RATE) if exchanges else load.steady(rate, seconds)
    report = {"machine": machine(), "workers": workers, "candidates": CANDIDATES} | result
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(report)


class LongLoad:
    """A service and the load on it."""

    def __init__(self, model: Model, folder: Path, online: Path, scratch: Path, workers: int) -> None:
        self.model, self.folder, self.online, self.scratch, self.workers = model, folder, online, scratch, workers

    def steady(self, rate: float | None, seconds: float) -> dict[str, Any]:
        """Latencies by minute, memory and processor share by process, under a constant load."""
        bodies = write_bodies(self.scratch / "bodies.jsonl", sample_requests(self.model, CANDIDATES, 2000))
        with self._served(self.folder, self.online) as server:
            rate = rate or half_of_limit(server, bodies)
            with RunningLoad(server, bodies, rate=rate, seconds=seconds) as load:
                samples = list(_sample(server, seconds))
                outcomes = load.result()
        minutes = [_minute(outcomes, samples, start) for start in np.arange(0, seconds - MINUTE / 2, MINUTE).tolist()]
        growth = memory_growth(samples)
        slowdown = minutes[-1]["p99"] / minutes[0]["p99"]
        return {
            "rate": rate,
            "seconds": seconds,
            "requests": len(outcomes.status),
            "errors": outcomes.errors,
            "degraded": int(outcomes.degraded.sum()),
            "minutes": minutes,
            "samples": samples,
            "grown": growth,
            "cores": processor_shares(samples),
            "stolen": stolen_share(samples),
            "p99_last_over_first": slowdown,
            "load_average": os.getloadavg(),
            "passed": not outcomes.errors and slowdown <= MAX_SLOWDOWN and max(growth.values()) <= MAX_GROWTH,
        }

    def exchanges(self, count: int, rate: float) -> dict[str, Any]:
        """Exchange model and snapshot in turns, `count` times each, under load; every different answer is checked."""
        requests = sample_requests(self.model, CANDIDATES, EXCHANGE_BODIES)
        bodies = write_bodies(self.scratch / "bodies.jsonl", requests)
        variants = Variants(self.folder, self.online, self.scratch)
        expected = self._expected(variants, requests)
        kept, seconds = self.scratch / "answers.jsonl", (2 * count + 1) * EXCHANGE_SECONDS
        variants.use(0, 0)
        with (
            self._served(variants.model, variants.online) as server,
            RunningLoad(server, bodies, rate=rate, seconds=seconds, options=("--answers", str(kept))) as load,
        ):
            for turn in range(2 * count):
                time.sleep(EXCHANGE_SECONDS)
                variants.use((turn + 1) // 2 % 2, (turn + 2) // 2 % 2)
                report_progress(f"exchange {turn + 1} of {2 * count}")
            outcomes = load.result()
        answers = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
        mixed, pairs = find_mixed(answers, expected)
        p50, p95, p99, longest = percentiles(outcomes.latency)
        return {
            "exchanges": {"models": count, "snapshots": count},
            "rate": rate,
            "requests": len(outcomes.status),
            "errors": outcomes.errors,
            "degraded": int(outcomes.degraded.sum()),
            "different_answers": len(answers),
            "mixed": len(mixed),
            "first_mixed": mixed[:1],
            "pairs_seen": len(pairs),
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "longest": longest,
            "load_average": os.getloadavg(),
            "passed": not outcomes.errors and not mixed and len(pairs) > 2,
        }

    def _expected(self, variants: Variants, requests: list[dict[str, Any]]) -> list[list[bytes]]:
        """The answer of each pair of model and snapshot to every request, by request; one server per pair."""
        expected: list[list[bytes]] = [[] for _ in requests]
        for model, snapshot in ((0, 0), (0, 1), (1, 1), (1, 0)):
            variants.use(model, snapshot)
            report_progress(f"the answers of model {model} with snapshot {snapshot}")
            with self._served(variants.model, variants.online) as server:
                for number, request in enumerate(requests):
                    expected[number].append(compared_fields(_complete_answer(server, request)))
        return expected

    def _served(self, model: Path, online: Path) -> AbstractContextManager[Server]:
        environment = {variable("model"): str(model), variable("online_store"): str(online)}
        return serve(OURS, workers=self.workers, environment=environment)


def half_of_limit(server: Server, bodies: Path) -> float:
    """Half of the answers per second in a closed loop of LIMIT_SECONDS, after a warm-up."""
    for seconds in (WARM_SECONDS, LIMIT_SECONDS):
        point = measure(server, bodies, candidates=CANDIDATES, rate=None, seconds=seconds, connections=CLOSED)
    report_progress(f"limit: {point.answers_per_second:.0f} answers/s in a closed loop, {point.stolen:.1%} stolen")
    return round(point.answers_per_second / 2)


def find_mixed(answers: list[dict[str, Any]], expected: list[list[bytes]]) -> tuple[list[dict[str, Any]], set[int]]:
    """The answers that no pair gives to their body, and the pairs that gave the others; `expected` by body and pair.

    Failed and degraded answers are not checked.
    """
    complete = [one for one in answers if one["status"] == 200 and not one["answer"]["degraded"]]
    mixed = [one for one in complete if compared_fields(one["answer"]) not in expected[one["body"]]]
    pairs = {
        pair
        for one in complete
        for pair, answer in enumerate(expected[one["body"]])
        if answer == compared_fields(one["answer"])
    }
    return mixed, pairs


def compared_fields(answer: dict[str, Any]) -> bytes:
    """Model, items, scores and probabilities of an answer."""
    return orjson.dumps([answer[name] for name in ("model", "item_ids", "scores", "probabilities")])


def _complete_answer(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, which is sent again while it is degraded: a busy machine may read its store too late."""
    for _ in range(100):
        answer: dict[str, Any] = orjson.loads(post(f"{server.url}/rank", orjson.dumps(request)))
        if not answer["degraded"]:
            return answer
        time.sleep(0.1)
    raise PipelineError(f"{server.url} does not answer from its store: {answer['degraded']}")


def _sample(server: Server, seconds: float) -> Iterator[dict[str, Any]]:
    """Every few seconds: memory and processor time of each process, and what the host took of all cores."""
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        yield {
            "seconds": round(now, 1),
            "megabytes": server.megabytes(),
            "processor_seconds": server.processor_seconds(),
            "stolen_seconds": stolen_seconds(),
        }
        time.sleep(min(SAMPLE_SECONDS, max(0.0, seconds - now)))


def _minute(outcomes: Outcomes, samples: list[dict[str, Any]], start: float) -> dict[str, Any]:
    inside = outcomes.between(start, start + MINUTE)
    p50, p95, p99, longest = percentiles(inside.latency)
    stolen = stolen_share([sample for sample in samples if start <= sample["seconds"] <= start + MINUTE])
    figures = {"p50": p50, "p95": p95, "p99": p99, "longest": longest, "stolen": stolen}
    return {"from": start, "requests": len(inside.status)} | figures


def stolen_share(samples: list[dict[str, Any]]) -> float:
    """The share of all cores that the host took between the first and the last sample; NaN for a single one."""
    if len(samples) < 2:
        return float("nan")
    first, last = samples[0], samples[-1]
    return share_of_cores(last["stolen_seconds"] - first["stolen_seconds"], last["seconds"] - first["seconds"])


def processor_shares(samples: list[dict[str, Any]]) -> dict[str, float]:
    """The share of a core that each process used which lived from first to last: an idle worker stands out."""
    first, last = samples[0], samples[-1]
    seconds = last["seconds"] - first["seconds"] or float("nan")
    before, after = first["processor_seconds"], last["processor_seconds"]
    return {pid: (after[pid] - before[pid]) / seconds for pid in sorted(before.keys() & after.keys())}


def memory_growth(samples: list[dict[str, Any]]) -> dict[str, float]:
    """The memory of each process at the end, relative to that after a minute (or half of a short run)."""
    base = next((sample for sample in samples if sample["seconds"] >= MINUTE), samples[len(samples) // 2])
    last = samples[-1]["megabytes"]
    return {pid: mb / base["megabytes"].get(pid, mb) for pid, mb in last.items()}


def show(report: dict[str, Any]) -> None:
    """Print the figures of the report."""
    table = Table("figure", "value", title="Exchanges under load" if "exchanges" in report else "Soak")
    for name, value in report.items():
        if name not in ("minutes", "samples", "first_mixed"):
            table.add_row(name, str(value))
    for minute in report.get("minutes", []):
        figures = f"p50 {minute['p50']:.1f} p99 {minute['p99']:.1f} ms, stolen {minute['stolen']:.1%}"
        table.add_row(f"from {minute['from']:.0f} s", figures)
    Console(width=130).print(table)
