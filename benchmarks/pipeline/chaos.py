"""Benchmark: pipeline runs under faults: kill -9 at random times, a full disk, locks, a clock that jumps.

    python -m benchmarks.pipeline.chaos --folder /mnt/small --json chaos.json

In `folder` (on a small file system, if the disk is to be filled), the last commit is cloned, run once on a small
simulation, and released; its champion is served and gets two requests a second throughout. Then a graph of four stages
of 4 s each replaces the real one (with `--real` it stays). Each case starts a run through a real Prefect server and
worker, injects a fault, and checks: did the run reach a correct final state by itself, did the next run complete, was
the champion served, is everything whole that DVC tracks?
"""

import argparse
import datetime
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.fault_injection import TARGETS, fill_disk, lock_store, modules, running, targets
from benchmarks.pipeline.small_project import clone, write_raw, write_tiny_graph
from benchmarks.pipeline.stack import Stack, stack, wait_for
from benchmarks.pipeline.watch import Watch, damage
from common.paths import CHAMPION, FLOWS, PARAMS, SERVING_STORE
from common.yaml_file import dump_yaml, read_yaml

TIMEOUT_SECONDS = 1200.0  # until a run has ended
CLOCK = Path(__file__).with_name("clock.c")
DAY_SECONDS = 86_400
FULL_SECONDS = 20.0  # that the disk is full
LOCKED_SECONDS = 20.0  # that the online store is locked
RESERVE = 256 << 20  # bytes, for all stages before the last one


@dataclass(kw_only=True)
class Case:
    """One trial and its results; `during`: the modules that ran, `harm`: what was broken afterwards."""

    what: str
    after_seconds: float | None = None
    during: str = ""
    states: list[str] = field(default_factory=list)
    message: str = ""
    seconds: float = 0.0
    next: str = ""
    answers: int = 0  # of the champion's service
    missed: int = 0
    harm: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the run ended by itself, the next one completed, the champion was served, and nothing is broken."""
        return bool(self.states) and self.next == "COMPLETED" and not self.missed and not self.harm


class Chaos:
    """A workspace with its server, worker and served champion, and the logical dates of its runs."""

    def __init__(self, stack: Stack, watch: Watch) -> None:
        self.stack, self.watch = stack, watch
        self.newest = max(done_until(path) for path in (stack.workspace / FLOWS).glob("*.json"))
        self.tiny = (stack.workspace / "tiny").exists()

    def next_date(self) -> str:
        """A logical date that is newer than all before."""
        self.newest += datetime.timedelta(days=1)
        return str(self.newest)

    def invalidate(self, *, whole: bool) -> None:
        """Make stages out of date: all, or (of the real graph) evaluate and package, so that there is a new bento."""
        if self.tiny:
            write_raw(self.stack.workspace)
            return
        path = self.stack.workspace / PARAMS
        params = read_yaml(path)
        params["evaluate"]["bins"] = 5 + self.newest.toordinal() % 50
        if whole:
            params["dataset"]["simulation"]["seed"] = self.newest.toordinal()
        path.write_text(dump_yaml(params), encoding="utf-8")

    def start(self, deployment: str, as_of: str | None = None) -> str:
        """Start a run as of a new date, without a release where the graph makes no bento; returns its id."""
        more = {"release": False} if self.tiny and deployment.startswith("pipeline") else {}
        return self.stack.run_now(deployment, as_of=as_of or self.next_date(), **more)

    def trial(self, case: Case, inject: Callable[[str], None], *, deployment: str = "pipeline/nightly") -> Case:
        """Start a run, inject the fault once it is running (`inject` gets its id), and fill in the results."""
        started, answers, missed = time.monotonic(), self.watch.answers, self.watch.missed
        run = self.start(deployment)
        wait_for(lambda: self.stack.states(run), lambda states: "Running" in states, TIMEOUT_SECONDS)
        inject(run)
        ended = self.stack.ended(run, TIMEOUT_SECONDS)
        case.states, case.message = self.stack.states(run), (ended["state"]["message"] or "").splitlines()[0]
        case.seconds = round(time.monotonic() - started, 1)
        case.next = self.stack.ended(self.start(deployment), TIMEOUT_SECONDS)["state"]["type"]
        case.answers, case.missed = self.watch.answers - answers, self.watch.missed - missed
        case.harm = damage(self.stack)
        return case

    def kill(self, target: str, seconds: float, *, whole: bool) -> Case:
        """Kill -9 of a target, some seconds into a run."""
        self.invalidate(whole=whole)
        case = Case(what=f"kill -9 of the {target}", after_seconds=round(seconds, 1))

        def inject(run: str) -> None:
            time.sleep(seconds)
            victims = wait_for(lambda: targets(self.stack, target), bool, 300)
            case.during = modules(self.stack)
            for process in victims:
                process.kill()

        return self.trial(case, inject)

    def fill_disk(self) -> Case:
        """No byte is free while `package` writes, for FULL_SECONDS."""
        self.invalidate(whole=False)
        package = "package" if self.tiny else "serving.package"
        ballast = self.stack.workspace / ".dvc" / "tmp" / "ballast"
        fill_disk(ballast, leaving=RESERVE)  # the slow part first: `package` is short

        def inject(run: str) -> None:
            wait_for(lambda: running(self.stack, package), bool, 600)
            fill_disk(ballast)
            time.sleep(FULL_SECONDS)  # the server's database is on that disk, too: it can record no end meanwhile
            ballast.unlink()

        return self.trial(Case(what="disk full", during=package), inject)

    def lock_store(self) -> Case:
        """Another process holds the online store during its refresh."""
        self.newest = max(self.newest, datetime.datetime.now(datetime.UTC).date())  # the schedule refreshes it, too
        self.stack.ended(self.start("materialize/hourly"), TIMEOUT_SECONDS)
        case = Case(what=f"online store locked for {LOCKED_SECONDS:g} s")
        store = self.stack.workspace / SERVING_STORE
        return self.trial(case, lambda run: lock_store(store, LOCKED_SECONDS), deployment="materialize/hourly")

    def run_at_once(self) -> Case:
        """The same deployment twice, and once by hand, for one date."""
        self.invalidate(whole=False)
        case = Case(what="three pipelines at once")

        def inject(run: str) -> None:
            date = self.stack.get(f"flow_runs/{run}")["parameters"]["as_of"]
            second = self.start("pipeline/nightly", date)
            by_hand = [sys.executable, "-m", "flows.pipeline", "--as-of", date, *["--no-release"] * self.tiny]
            line = self.stack.run(*by_hand).strip().splitlines()[-1]
            ended = self.stack.ended(second, TIMEOUT_SECONDS)
            case.during = f"the second: {ended['state']['message']}; by hand: {line}"

        return self.trial(case, inject)


def done_until(path: Path) -> datetime.date:
    """The newest date that a flow has done."""
    return datetime.datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["done"]).date()


@contextmanager
def prepared(folder: Path, home: Path, *, tiny: bool, **environment: str) -> Iterator[Chaos]:
    """Server, worker and a served champion; the graph is the real one or the tiny one."""
    with stack(folder, home, **environment) as made:
        made.start_worker()
        if not (folder / CHAMPION).exists():
            first = made.ended(made.run_now("pipeline/nightly", as_of="2026-01-31"), TIMEOUT_SECONDS)
            assert first["state"]["type"] == "COMPLETED", first["state"]["message"]
        if tiny:
            write_tiny_graph(folder)
        with Watch(made) as watch:
            yield Chaos(made, watch)


def shift_clock(folder: Path, home: Path, *, tiny: bool) -> Case:
    """The time of day of server, worker, flow and stages jumps a day ahead in the middle of a run."""
    ahead, library = home.with_suffix(".ahead"), home.with_suffix(".so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, CLOCK], check=True)
    ahead.write_text("0")
    environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(ahead)}
    with prepared(folder, home, tiny=tiny, **environment) as chaos:
        chaos.invalidate(whole=False)

        def inject(run: str) -> None:
            time.sleep(10)
            ahead.write_text(str(DAY_SECONDS))

        return chaos.trial(Case(what="the clock jumps a day ahead"), inject)


def cases(chaos: Chaos, kills: int, chosen: Sequence[str], seed: int, longest: float) -> Iterator[Case]:
    """All cases but the clock; every sixth run that is killed runs the whole graph."""
    random_times = random.Random(seed)
    for number in range(kills):
        whole = number % 6 == 0
        seconds = random_times.uniform(1, longest * (2 if whole else 1))
        yield chaos.kill(chosen[number % len(chosen)], seconds, whole=whole)
    yield chaos.run_at_once()
    yield chaos.fill_disk()
    yield chaos.lock_store()


def show(results: list[Case]) -> None:
    """Print the table."""
    table = Table("case", "after", "while", "states of the run", "seconds", "next run", "champion", "broken")
    for case in results:
        after, champion = f"{case.after_seconds or 0:g} s", f"{case.answers} answers, {case.missed} missed"
        states, harm = " > ".join(case.states), ", ".join(case.harm) or "nothing"
        table.add_row(case.what, after, case.during, states, f"{case.seconds:g}", case.next, champion, harm)
    Console(width=200).print(table)


def main() -> int:
    """Run every case; 1 where one did not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.chaos", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the workspace, on a small file system")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--moments", dest="kills", type=int, default=10, help="how many runs are killed")
    parser.add_argument("--kill", nargs="+", choices=TARGETS, default=TARGETS, help="what is killed, in turn")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds into a run, for the latest kill")
    parser.add_argument("--real", action="store_true", help="the real graph")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    workspace, results = clone(chosen.folder / "workspace"), list[Case]()

    def keep(case: Case) -> None:
        results.append(case)
        chosen.json.write_text(json.dumps([asdict(one) | {"passed": one.passed} for one in results], indent=1))
        print(f"{case.what}: {'passed' if case.passed else 'FAILED'} {asdict(case)}", flush=True)

    with prepared(workspace, chosen.folder / "prefect", tiny=not chosen.real) as chaos:
        for case in cases(chaos, chosen.kills, chosen.kill, chosen.seed, chosen.longest):
            keep(case)
    if shutil.which("cc"):
        keep(shift_clock(workspace, chosen.folder / "prefect-clock", tiny=not chosen.real))
    show(results)
    return int(not all(case.passed for case in results))


if __name__ == "__main__":
    sys.exit(main())
