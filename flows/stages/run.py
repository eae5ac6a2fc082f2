"""The stages of dvc.yaml as tasks: DVC says which there are, in which order, and which are stale."""

import asyncio
import collections
import contextlib
import dataclasses
import re
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.process.child_process import Log, run_process
from flows.stages.graph import Stage, read_graph, reasons
from flows.stages.recovery import check, recovery

PEAK = re.compile(r"^[\w.]+: [\d.,]+ s, peak memory ([\d,]+ MB)$")  # the last line of a stage, see stage.py
STOPPED = re.compile(r"^[\w.]+ stopped: ")  # its one sentence when it fails
VERDICTS = {  # DVC's, and the states that they are shown as
    "cached": re.compile(r"^Stage '.*' didn't change, skipping"),
    "restored": re.compile(r"^Stage '.*' is cached - skipping run, checking out outputs"),
}
KILLED = re.compile(r"exited with (?:-9|137)$")
BUSY = "is busy, it is being blocked by"
BUSY_SECONDS, BUSY_TIMES = 10.0, 360  # another DVC writes what this stage reads: an hour


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """What became of a stage: a row of the table."""

    stage: str
    state: str = "not reached"
    seconds: float | None = None
    peak_memory: str | None = None
    why: str | None = None
    cause: str | None = None  # of a failure, in one line

    @property
    def good(self) -> bool:
        """Whether what the stage makes is there and up to date."""
        return self.state in ("cached", "restored", "ran")


async def run_stages(*, at_once: int = 2, until: Path | None = None) -> list[Outcome]:
    """Run every stage that DVC holds to be stale, each as a task, `at_once` of them at most (one on the GPU).

    `until`: only those that make that output, and what they wait for. After a failure nothing new is started. A row for
    each stage, in order, whatever became of it.
    """
    async with recovery(log=get_run_logger().warning):
        stages = await asyncio.to_thread(read_graph, until)
        names = None if until is None else [stage.name for stage in stages]
        run = Run(await asyncio.to_thread(reasons, names), at_once=at_once)
        try:
            async with asyncio.TaskGroup() as group:
                for stage in stages:
                    run.outcomes[stage.name] = Outcome(stage=stage.name)
                    run.ended[stage.name] = group.create_task(run.one(stage))
        finally:
            await tell_stages(list(run.outcomes.values()))
        return list(run.outcomes.values())


class Run:
    """One run of the graph: what is stale, what has ended, and who may start."""

    def __init__(self, stale: dict[str, str], *, at_once: int) -> None:
        self.stale = stale
        self.outcomes: dict[str, Outcome] = {}
        self.ended: dict[str, asyncio.Task[State | None]] = {}
        self.processes, self.gpu, self.asking = asyncio.Semaphore(at_once), asyncio.Semaphore(1), asyncio.Lock()

    async def one(self, stage: Stage) -> State | None:
        """The final state of the stage's task; None where it was not reached."""
        before = [await self.ended[name] for name in stage.after]
        if not all(self.outcomes[name].good for name in stage.after):
            return None
        if not await self._is_stale(stage):
            return await self._run(stage, before)
        async with self.gpu if stage.gpu else contextlib.nullcontext(), self.processes:
            failed = any(outcome.state == "failed" for outcome in self.outcomes.values())
            return None if failed else await self._run(stage, before)

    async def _is_stale(self, stage: Stage) -> bool:
        """As DVC had it when the run began; behind a stage that ran, as DVC has it now."""
        if any(self.outcomes[name].state != "cached" for name in stage.after):
            self.stale.pop(stage.name, None)
            async with self.asking:  # DVC looks for its lock twice a second only
                self.stale |= await asyncio.to_thread(reasons, [stage.name])
        return stage.name in self.stale

    async def _run(self, stage: Stage, before: list[State | None]) -> State:
        outcome = self.outcomes[stage.name]
        outcome.why = self.stale.get(stage.name)
        state: State = await as_task(stage, outcome)(return_state=True, wait_for=before)  # type: ignore[misc]
        if not outcome.good:
            outcome.state = "failed"
            outcome.cause = outcome.cause or f"{stage.name}: {state.message}"
        return state


def as_task(stage: Stage, outcome: Outcome) -> Task[[], Coroutine[Any, Any, State]]:
    """The stage as a task, with the hints of its `meta`; what comes of it is written to `outcome`."""

    @task(
        name=stage.name,
        task_run_name=stage.name,
        description=stage.description,
        cache_policy=NO_CACHE,
        retries=stage.retries,
        retry_delay_seconds=stage.retry_seconds,
        timeout_seconds=stage.timeout_seconds,
        tags=["gpu"] if stage.gpu else [],
    )
    async def reproduce() -> State:
        if outcome.why is None:
            outcome.state = "cached"
            return Completed(name="Cached", message="up to date")
        started = time.perf_counter()
        try:
            return await _reproduce(stage, outcome)
        finally:
            outcome.seconds = round(time.perf_counter() - started, 1)

    return reproduce


async def _reproduce(stage: Stage, outcome: Outcome) -> State:
    logger, outcome.cause = get_run_logger(), None
    logger.info(f"runs, for {outcome.why}")
    status, lines = await _dvc_repro(stage.name, logger.info)
    if status:
        outcome.cause = cause(stage.name, lines)
        return Failed(message=outcome.cause)
    outcome.peak_memory = next((found[1] for found in map(PEAK.match, reversed(lines)) if found), None)
    outcome.state = next((state for state, said in VERDICTS.items() if any(map(said.match, lines))), "ran")
    return Completed(name=None if outcome.state == "ran" else outcome.state.capitalize())


async def _dvc_repro(name: str, log: Log) -> tuple[int, list[str]]:
    """Exit status and last lines of DVC; while another DVC writes what this stage reads, wait and try again.

    `--wait-for-lock`: without it, a stage that ends while another one is being hashed for 3 s is lost.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    lines: collections.deque[str] = collections.deque(maxlen=200)

    def told(line: str) -> None:
        lines.append(line)
        log(line)

    for _ in range(BUSY_TIMES):
        lines.clear()
        await asyncio.to_thread(check, log)
        status = await run_process(command, cwd=Path(), log=told)
        if not status or not any(BUSY in line for line in lines):
            break
        log(f"waits {BUSY_SECONDS:g} s for another DVC")
        await asyncio.sleep(BUSY_SECONDS)
    return status, list(lines)


def cause(name: str, lines: list[str]) -> str:
    """Why a stage failed, in one line: its own sentence, else that it was killed, else the last thing it said."""
    said = [line for line in lines if STOPPED.match(line)]
    if not said and any(KILLED.search(line) for line in lines):
        return f"{name} was killed (signal 9): did the machine run out of memory?"
    said = said or [line for line in lines if not line.startswith("ERROR: failed to reproduce")] or lines
    return said[-1] if said else f"{name} failed without a word"


async def tell_stages(outcomes: list[Outcome]) -> None:
    """The table of a run as an artifact: what became of each stage, how long, how much memory, and why it ran."""
    columns = ("stage", "state", "seconds", "peak_memory", "why")
    table = [{column: getattr(outcome, column) for column in columns} for outcome in outcomes]
    await acreate_table_artifact(key="stages", table=table, description="What became of each stage")
