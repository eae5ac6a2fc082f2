"""A pipeline run when something dies: kill -9 at random moments, a full disk, locks, a clock that jumps.

    python -m benchmarks.pipeline.chaos --folder /mnt/small --json chaos.json

In `folder` (on a small file system, if the disk is to be filled), the last commit is cloned, run once on a tiny
simulation, and released; its champion is served and asked twice a second throughout. Then a graph of four stages that
last 4 s each takes the place of the real one (`--real`: it stays). Each case starts a run through a real Prefect server
and worker, harms it, and looks: did the run end in a true state by itself, did the next one complete, was the champion
served, is everything that DVC knows whole?
"""

import argparse
import datetime
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.stack import Stack, stack, wait_for
from benchmarks.pipeline.watch import Watch, clone, harmed, make_tiny, write_raw

PARTS = ("features.", "models.", "serving.", "monitoring.")  # what runs as a process of a flow
KILLED = ("stage", "worker", "server", "flow", "worker and flow")
SMALLEST = 4 << 30  # bytes: a file system of more than this is not filled
PACKAGE = "serving.package"
PATIENCE = 1200.0  # seconds until a run has to be over
CLOCK = Path(__file__).with_name("clock.c")
DAY = 86_400  # seconds
STORE = Path("artifacts/serving/online.db")
ROOM = 20.0  # seconds that the disk is full
ENOUGH = 256 << 20  # bytes, for all stages before the last one


@dataclass(kw_only=True)
class Case:
    """One trial, and what was seen afterwards."""

    what: str
    after_seconds: float | None = None
    during: str = ""  # the module that ran
    states: list[str] = field(default_factory=list)
    message: str = ""
    seconds: float = 0.0
    next: str = ""
    answers: int = 0
    missed: int = 0  # of the service on the champion
    harm: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Ended by itself, the next run completed, the champion was served, nothing is broken."""
        return bool(self.states) and self.next == "COMPLETED" and not self.missed and not self.harm


class Chaos:
    """A workspace with its server, worker and champion, and the days of its runs."""

    def __init__(self, made: Stack, watch: Watch) -> None:
        self.stack, self.watch = made, watch
        self.last = max(done_until(path) for path in (made.workspace / "artifacts" / "flows").glob("*.json"))
        self.tiny = (made.workspace / "tiny").exists()

    def day(self) -> str:
        """A logical date that is newer than all before."""
        self.last += datetime.timedelta(days=1)
        return str(self.last)

    def renew(self, *, whole: bool) -> None:
        """Make stages stale: all, or (of the real graph) evaluate and package, so that there is a bento to release."""
        path = self.stack.workspace / "params.yaml"
        plain = yaml.safe_load(path.read_text())
        plain["evaluate"]["bins"] = 5 + self.last.toordinal() % 50
        if whole:
            plain["dataset"]["simulation"]["seed"] = self.last.toordinal()
        if self.tiny:
            write_raw(self.stack.workspace)
        else:
            path.write_text(yaml.safe_dump(plain))

    def start(self, deployment: str, day: str | None = None) -> str:
        """A run as of a new day; the release is left out where there is no bento to release."""
        more = {"release": False} if self.tiny and deployment.startswith("pipeline") else {}
        return self.stack.run_now(deployment, as_of=day or self.day(), **more)

    def trial(self, case: Case, harm: Callable[[Case, str], None], *, deployment: str = "pipeline/nightly") -> Case:
        """Start a run, harm it, and look."""
        started, answered, missed = time.monotonic(), self.watch.answers, self.watch.missed
        run = self.start(deployment)
        wait_for(lambda: self.stack.states(run), lambda states: "Running" in states, PATIENCE)
        harm(case, run)
        ended = self.stack.ended(run, PATIENCE)
        case.states, case.message = self.stack.states(run), (ended["state"]["message"] or "").splitlines()[0]
        case.seconds = round(time.monotonic() - started, 1)
        follow = self.start(deployment)
        case.next = self.stack.ended(follow, PATIENCE)["state"]["type"]
        case.answers, case.missed = self.watch.answers - answered, self.watch.missed - missed
        case.harm = harmed(self.stack)
        return case

    def killed(self, what: str, seconds: float, *, whole: bool) -> Case:
        """Kill -9 of `what`, some seconds into a run."""
        self.renew(whole=whole)

        def kill(case: Case, run: str) -> None:
            time.sleep(seconds)
            found = wait_for(lambda: victims(self.stack, what), bool, 300)
            case.during = ", ".join(sorted({name for name in map(module, processes(self.stack)) if name}))
            for process in found:
                process.kill()

        return self.trial(Case(what=f"kill -9 of the {what}", after_seconds=round(seconds, 1)), kill)

    def disk_full(self) -> Case:
        """No byte is left while `package` writes; after ROOM seconds somebody makes some."""
        self.renew(whole=False)
        ballast, package = self.stack.workspace / ".dvc" / "tmp" / "ballast", "package" if self.tiny else PACKAGE
        fill_up(ballast, leaving=ENOUGH)  # what takes long, before: `package` is short

        def fill(case: Case, run: str) -> None:
            wait_for(lambda: running(self.stack, package), bool, 600)
            case.during = package
            fill_up(ballast)
            time.sleep(ROOM)  # the server's own file is on that disk, too: it cannot note the end of a run before
            ballast.unlink()

        return self.trial(Case(what="disk full"), fill)

    def store_locked(self) -> Case:
        """Somebody else holds the online store for 20 seconds of its refresh."""
        self.last = max(self.last, datetime.datetime.now(datetime.UTC).date())  # the schedule brings it up, too
        self.stack.ended(self.start("materialize/hourly"), PATIENCE)

        def lock(case: Case, run: str) -> None:
            with closing(sqlite3.connect(self.stack.workspace / STORE)) as connection:
                connection.execute("begin immediate")
                time.sleep(20)
                connection.rollback()

        return self.trial(Case(what="online store locked for 20 s"), lock, deployment="materialize/hourly")

    def two_at_once(self) -> Case:
        """The same deployment twice, and once by hand, for one date."""
        self.renew(whole=False)

        def again(case: Case, run: str) -> None:
            day = self.stack.get(f"flow_runs/{run}")["parameters"]["as_of"]
            second = self.start("pipeline/nightly", day)
            by_hand = [sys.executable, "-m", "flows.pipeline", "--as-of", day, *["--no-release"] * self.tiny]
            said = self.stack.run(*by_hand).strip().splitlines()[-1]
            ended = self.stack.ended(second, PATIENCE)
            case.during = f"the second: {ended['state']['message']}; by hand: {said}"

        return self.trial(Case(what="three pipelines at once"), again)


def done_until(path: Path) -> datetime.date:
    """The date that a flow has done."""
    return datetime.datetime.fromisoformat(json.loads(path.read_text())["done"]).date()


def module(process: psutil.Process) -> str:
    """The module of the project, or the stage of the tiny graph, that a process runs, if it runs one."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if words[:2] == ["sh", "stage.sh"]:
        return words[2]
    return words[2] if len(words) > 2 and words[1] == "-m" and words[2].startswith(PARTS) else ""


def processes(made: Stack) -> list[psutil.Process]:
    """Those that run in the workspace."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(made.workspace):
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or it is not ours
            continue
    return found


def running(made: Stack, name: str) -> list[psutil.Process]:
    """The processes in the workspace that run a module; "": any of the project's."""
    return [one for one in processes(made) if module(one) and module(one) == (name or module(one))]


def victims(made: Stack, what: str) -> list[psutil.Process]:
    """The processes that `what` stands for."""
    if what == "stage":
        return running(made, "")
    if what == "server":
        server = psutil.Process(made.kept["server"].process.pid)
        return [server, *server.children(recursive=True)]
    flows = [one for one in processes(made) if "prefect.engine" in " ".join(one.cmdline())]
    worker = psutil.Process(made.kept["worker"].process.pid)
    return {"worker": [worker], "flow": flows, "worker and flow": [worker, *flows] if flows else []}[what]


def fill_up(path: Path, *, leaving: int = 0) -> None:
    """Make a file of all that is free but `leaving` bytes; refuses to fill a large file system."""
    space = os.statvfs(path.parent)
    if space.f_blocks * space.f_frsize > SMALLEST:
        raise SystemExit(f"{path.parent} is on a file system of more than 4 GiB, which is not filled: see --folder")
    free = space.f_bavail * space.f_frsize - leaving
    with path.open("ab", buffering=0) as file, suppress(OSError):  # full: somebody else wrote meanwhile
        os.posix_fallocate(file.fileno(), file.tell(), max(free, 1))
        while not leaving:
            file.write(b"0" * 4096)


@contextmanager
def served(folder: Path, home: Path, *, tiny: bool, **environment: str) -> Iterator[Chaos]:
    """Server, worker, champion and whoever asks it; the graph is the real one, or a tiny one."""
    with stack(folder, home, **environment) as made:
        made.start_worker()
        if not (folder / "artifacts" / "releases" / "champion").exists():
            first = made.ended(made.run_now("pipeline/nightly", as_of="2026-01-31"), PATIENCE)
            assert first["state"]["type"] == "COMPLETED", first["state"]["message"]
        if tiny:
            make_tiny(folder)
        with Watch(made) as watch:
            yield Chaos(made, watch)


def clock_jumps(folder: Path, home: Path, *, tiny: bool) -> Case:
    """Server, worker, flow and stages see a time of day that goes a day ahead in the middle of a run."""
    ahead, library = home.with_suffix(".ahead"), home.with_suffix(".so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, CLOCK], check=True)
    ahead.write_text("0")
    fake = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(ahead)}
    with served(folder, home, tiny=tiny, **fake) as chaos:
        chaos.renew(whole=False)

        def jump(case: Case, run: str) -> None:
            time.sleep(10)
            ahead.write_text(str(DAY))

        return chaos.trial(Case(what="the clock jumps a day ahead"), jump)


def cases(chaos: Chaos, moments: int, killed: Sequence[str], seed: int, longest: float) -> Iterator[Case]:
    """All of them but the clock; every sixth run that is killed is one of the whole graph."""
    chance = random.Random(seed)
    for number in range(moments):
        whole = number % 6 == 0
        yield chaos.killed(killed[number % len(killed)], chance.uniform(1, longest * (2 if whole else 1)), whole=whole)
    yield chaos.two_at_once()
    yield chaos.disk_full()
    yield chaos.store_locked()


def show(found: list[Case]) -> None:
    """The table."""
    table = Table("case", "after", "while", "states of the run", "seconds", "next run", "champion", "broken")
    for case in found:
        after, champion = f"{case.after_seconds or 0:g} s", f"{case.answers} answers, {case.missed} missed"
        table.add_row(
            case.what,
            after,
            case.during,
            " > ".join(case.states),
            f"{case.seconds:g}",
            case.next,
            champion,
            ", ".join(case.harm) or "nothing",
        )
    Console(width=200).print(table)


def main() -> int:
    """Every case; 1 where one did not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.chaos", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where to work, on a small file system")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--kill", nargs="+", choices=KILLED, default=KILLED, help="what, in turn")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds into a run, for the latest moment")
    parser.add_argument("--real", action="store_true", help="the real graph")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    workspace, found = clone(chosen.folder / "workspace"), list[Case]()

    def keep(case: Case) -> None:
        found.append(case)
        chosen.json.write_text(json.dumps([asdict(one) | {"passed": one.passed} for one in found], indent=1))
        print(f"{case.what}: {'passed' if case.passed else 'FAILED'} {asdict(case)}", flush=True)

    with served(workspace, chosen.folder / "prefect", tiny=not chosen.real) as chaos:
        for case in cases(chaos, chosen.moments, chosen.kill, chosen.seed, chosen.longest):
            keep(case)
    if shutil.which("cc"):
        keep(clock_jumps(workspace, chosen.folder / "prefect-clock", tiny=not chosen.real))
    show(found)
    return int(not all(case.passed for case in found))


if __name__ == "__main__":
    sys.exit(main())
