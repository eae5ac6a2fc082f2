"""The service under a long load, and under a load while models and snapshots are exchanged.

    python -m benchmarks.serving.soak --seconds 1200 --workers 2 --json soak.json
    python -m benchmarks.serving.soak --exchanges 20 --workers 2 --json exchanges.json

A soak is passed without an error, with memory that does not grow and with a p99 of the last minute within WORSE of the
first one's. Exchanges are passed without an error and without an answer that is neither what one pair of model and
snapshot says nor what another says: the pairs answer every request beforehand, one at a time.
"""

import json as text
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.serving.benchmark import CLOSED, machine, told
from benchmarks.serving.bodies import asked, write_bodies
from benchmarks.serving.points import Offered, measure, percentiles, share_of_cores, start_load, stolen_seconds
from benchmarks.serving.servers import OURS, Server, leave_nothing_behind, post, serve
from benchmarks.serving.variants import perturbed_model, shifted_snapshot
from common import stage
from common.errors import PipelineError
from features.store.item_snapshot import snapshot_beside
from models.model_folder import Model, read_model

WORSE = 1.2  # times the p99 of the first minute
GROWTH = 1.05  # times the memory of a worker after the first minute
MINUTE = 60.0
WARM_SECONDS, LIMIT_SECONDS = 5.0, 20.0  # of the closed loop
LOOK_SECONDS = 5.0  # between two looks at the processes
CANDIDATES = 200
FEW = 10  # different bodies under exchanges: each pair answers each one beforehand
UNDER_EXCHANGES = 40.0  # requests per second
BETWEEN = 8.0  # seconds from one exchange to the next: longer than serve.reload_seconds and a reload


def soak(
    *,
    json: Path = Path("artifacts/soak.json"),
    model: Path = Path("artifacts/models/hinet"),
    online: Path = Path("artifacts/online.db"),
    seconds: float = 1200,
    rate: float | None = None,
    workers: int = 1,
    exchanges: int = 0,
) -> None:
    """Load the service on `model` and `online` with `rate` for `seconds`, or while so many `exchanges` are made.

    Without a `rate`: half of what the service answers in a closed loop just before; with exchanges UNDER_EXCHANGES.
    """
    for path in (model, online):
        if not path.exists():
            raise PipelineError(f"{path} does not exist: run `dvc repro package`; train.epochs 1 will do")
    leave_nothing_behind()
    with TemporaryDirectory(prefix="hinet-soak-") as scratch:
        run = Run(read_model(model), model.absolute(), online.absolute(), Path(scratch), workers)
        found = run.exchanges(exchanges, rate or UNDER_EXCHANGES) if exchanges else run.steady(rate, seconds)
    report = {"machine": machine(), "workers": workers, "candidates": CANDIDATES} | found
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(text.dumps(report, indent=1) + "\n")
    show(report)


class Run:
    """A service and the load on it."""

    def __init__(self, model: Model, folder: Path, online: Path, scratch: Path, workers: int) -> None:
        self.model, self.folder, self.online, self.scratch, self.workers = model, folder, online, scratch, workers

    def steady(self, rate: float | None, seconds: float) -> dict[str, Any]:
        """Latencies by minute, memory and share of a core by process, of the same load all the time."""
        bodies = write_bodies(self.scratch / "bodies.jsonl", asked(self.model, CANDIDATES, 2000))
        with self._served(self.folder, self.online) as server:
            rate = rate or half_of_limit(server, bodies)
            with start_load(server, bodies, rate, seconds) as running:
                looks = list(_looks(server, seconds))
                offered = running.result()
        minutes = [_minute(offered, looks, start) for start in np.arange(0, seconds - MINUTE / 2, MINUTE).tolist()]
        grown = _growth(looks)
        worse = minutes[-1]["p99"] / minutes[0]["p99"]
        errors = int((offered.status != 200).sum())
        return {
            "rate": rate,
            "seconds": seconds,
            "requests": len(offered.status),
            "errors": errors,
            "degraded": int(offered.degraded.sum()),
            "minutes": minutes,
            "looks": looks,
            "grown": grown,
            "cores": _cores(looks),
            "stolen": _stolen(looks),
            "p99_last_over_first": worse,
            "load_average": os.getloadavg(),
            "passed": errors == 0 and worse <= WORSE and max(grown.values()) <= GROWTH,
        }

    def exchanges(self, count: int, rate: float) -> dict[str, Any]:
        """Model and snapshot are exchanged in turns, `count` times each, under load; each answer is looked at."""
        requests = asked(self.model, CANDIDATES, FEW)
        bodies = write_bodies(self.scratch / "bodies.jsonl", requests)
        world = Variants(self.folder, self.online, self.scratch)
        expected = self._expected(world, requests)
        answers, seconds = self.scratch / "answers.jsonl", (2 * count + 1) * BETWEEN
        world.use(0, 0)
        options = ("--answers", str(answers))
        with (
            self._served(world.model, world.online) as server,
            start_load(server, bodies, rate, seconds, 256, options) as running,
        ):
            for turn in range(2 * count):
                time.sleep(BETWEEN)
                world.use((turn + 1) // 2 % 2, (turn + 2) // 2 % 2)
                told(f"exchange {turn + 1} of {2 * count}")
            offered = running.result()
        said = [orjson.loads(line) for line in answers.read_bytes().splitlines()]
        mixed, seen = judged(said, expected)
        p50, p95, p99, longest = percentiles(offered.latency)
        errors = int((offered.status != 200).sum())
        return {
            "exchanges": {"models": count, "snapshots": count},
            "rate": rate,
            "requests": len(offered.status),
            "errors": errors,
            "degraded": int(offered.degraded.sum()),
            "different_answers": len(said),
            "mixed": len(mixed),
            "first_mixed": mixed[:1],
            "pairs_seen": len(seen),
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "longest": longest,
            "load_average": os.getloadavg(),
            "passed": errors == 0 and not mixed and len(seen) > 2,
        }

    def _expected(self, world: "Variants", requests: list[dict[str, Any]]) -> list[list[bytes]]:
        """What each pair of model and snapshot answers to every request, by request: one server per pair."""
        found: list[list[bytes]] = [[] for _ in requests]
        for model, snapshot in ((0, 0), (0, 1), (1, 1), (1, 0)):
            world.use(model, snapshot)
            told(f"what model {model} says with snapshot {snapshot}")
            with self._served(world.model, world.online) as server:
                for number, request in enumerate(requests):
                    found[number].append(_said(_whole(server, request)))
        return found

    def _served(self, model: Path, online: Path) -> Any:
        environment = {"HINET_MODEL": str(model), "HINET_ONLINE_STORE": str(online)}
        return serve(OURS, workers=self.workers, environment=environment)


class Variants:
    """Two models and two snapshots; `model` is a link that is exchanged by a rename, as a release does."""

    def __init__(self, model: Path, online: Path, scratch: Path) -> None:
        self.model, self.online = scratch / "champion", scratch / "online.db"
        shutil.copyfile(online, self.online)
        self.models = [scratch / "first", scratch / "second"]
        shutil.copytree(model, self.models[0])
        perturbed_model(model, self.models[1])
        self.snapshots = [scratch / "first.parquet", scratch / "second.parquet"]
        shutil.copyfile(snapshot_beside(online), self.snapshots[0])
        shifted_snapshot(snapshot_beside(online), self.snapshots[1])

    def use(self, model: int, snapshot: int) -> None:
        """Put this pair in place, each by a rename, if it is not there."""
        link = self.model.with_name("link.new")
        link.symlink_to(self.models[model])
        link.replace(self.model)
        place = snapshot_beside(self.online)
        if not place.exists() or place.read_bytes() != self.snapshots[snapshot].read_bytes():
            fresh = place.with_name("snapshot.new")
            shutil.copyfile(self.snapshots[snapshot], fresh)
            fresh.replace(place)


def half_of_limit(server: Server, bodies: Path) -> float:
    """Half of the answers per second in a closed loop of LIMIT_SECONDS, its first seconds thrown away."""
    for seconds in (WARM_SECONDS, LIMIT_SECONDS):
        found = measure(server, bodies, candidates=CANDIDATES, rate=None, seconds=seconds, connections=CLOSED)
    told(f"the limit: {found.answers_per_second:.0f} answers/s in a closed loop, {found.stolen:.1%} stolen")
    return round(found.answers_per_second / 2)


def judged(said: list[dict[str, Any]], expected: list[list[bytes]]) -> tuple[list[dict[str, Any]], set[int]]:
    """The answers that no pair gives to their body, and the pairs that gave the others; `expected` by body and pair.

    What failed or is degraded is no pair's answer, and no mixed one.
    """
    whole = [one for one in said if one["status"] == 200 and not one["answer"]["degraded"]]
    mixed = [one for one in whole if _said(one["answer"]) not in expected[one["body"]]]
    seen = {
        pair for one in whole for pair, answer in enumerate(expected[one["body"]]) if answer == _said(one["answer"])
    }
    return mixed, seen


def _whole(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, asked again while it is degraded: a busy machine reads its store too late."""
    for _ in range(100):
        answer: dict[str, Any] = orjson.loads(post(f"{server.url}/rank", orjson.dumps(request)))
        if not answer["degraded"]:
            return answer
        time.sleep(0.1)
    raise PipelineError(f"{server.url} does not answer from its store: {answer['degraded']}")


def _said(answer: dict[str, Any]) -> bytes:
    """What counts of an answer: model, items, scores and probabilities."""
    return orjson.dumps([answer[name] for name in ("model", "item_ids", "scores", "probabilities")])


def _looks(server: Server, seconds: float) -> Iterator[dict[str, Any]]:
    """Now and then: memory and processor time of each process, and what the host took of all cores."""
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        yield {
            "moment": round(now, 1),
            "megabytes": server.megabytes(),
            "processor_seconds": server.processor_seconds(),
            "stolen_seconds": stolen_seconds(),
        }
        time.sleep(min(LOOK_SECONDS, max(0.0, seconds - now)))


def _minute(offered: Offered, looks: list[dict[str, Any]], start: float) -> dict[str, Any]:
    inside = offered.between(start, start + MINUTE)
    p50, p95, p99, longest = percentiles(inside.latency)
    stolen = _stolen([look for look in looks if start <= look["moment"] <= start + MINUTE])
    return {
        "from": start,
        "requests": len(inside.status),
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "longest": longest,
        "stolen": stolen,
    }


def _stolen(looks: list[dict[str, Any]]) -> float:
    """The share of all cores that the host took between the first and the last look; NaN where there is but one."""
    if len(looks) < 2:
        return float("nan")
    first, last = looks[0], looks[-1]
    return share_of_cores(last["stolen_seconds"] - first["stolen_seconds"], last["moment"] - first["moment"])


def _cores(looks: list[dict[str, Any]]) -> dict[str, float]:
    """How much of a core each process used that was there from first to last: a worker without work stands out."""
    first, last = looks[0], looks[-1]
    seconds = last["moment"] - first["moment"] or float("nan")
    both = first["processor_seconds"].keys() & last["processor_seconds"].keys()
    return {pid: (last["processor_seconds"][pid] - first["processor_seconds"][pid]) / seconds for pid in sorted(both)}


def _growth(looks: list[dict[str, Any]]) -> dict[str, float]:
    """Of every process that was there at the end: its memory then, over that after a minute (or half a short run)."""
    settled = next((look for look in looks if look["moment"] >= MINUTE), looks[len(looks) // 2])
    last = looks[-1]["megabytes"]
    return {pid: mb / settled["megabytes"].get(pid, mb) for pid, mb in last.items()}


def show(report: dict[str, Any]) -> None:
    """Print what was found."""
    table = Table("figure", "found", title="Exchanges under load" if "exchanges" in report else "Soak")
    for name, value in report.items():
        if name not in ("minutes", "looks", "first_mixed"):
            table.add_row(name, str(value))
    for minute in report.get("minutes", []):
        table.add_row(
            f"from {minute['from']:.0f} s",
            f"p50 {minute['p50']:.1f} p99 {minute['p99']:.1f} ms, stolen {minute['stolen']:.1%}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    stage.run(soak)
