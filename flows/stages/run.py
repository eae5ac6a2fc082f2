"""The stages of dvc.yaml as Prefect tasks: DVC says which stages there are, their order, and which are out of date."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from prefect import State, Task, task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from common.openmp import beside_others
from flows.stages.attempt import attempt
from flows.stages.graph import Stage, read_graph, reasons
from flows.stages.recovery import recovery
from flows.stages.reproduce import RAN, RESTORED, UP_TO_DATE

CACHED, FAILED, NOT_REACHED = "cached", "failed", "not reached"
STATES = {RAN: RAN, RESTORED: RESTORED, UP_TO_DATE: CACHED}  # of a stage whose outputs are up to date, by DVC's word
COLUMNS = ("stage", "state", "seconds", "peak_memory", "why")


@dataclasses.dataclass(kw_only=True)
class StageResult:
    """What became of a stage: a row of the table of a run; `cause` of a failure, in one line."""

    stage: str
    state: str = NOT_REACHED
    seconds: float | None = None
    peak_memory: str | None = None
    why: str | None = None
    cause: str | None = None

    @property
    def up_to_date(self) -> bool:
        """Whether the outputs of the stage exist and are up to date."""
        return self.state in STATES.values()


async def run_stages(*, concurrency: int = 2, output: Path | None = None) -> list[StageResult]:
    """Run every stage that DVC holds to be out of date, each as a task, `concurrency` at once (one on the GPU).

    `output`: only the stages that this output needs. After a failure no further stage starts. Returns a result for
    each stage, in order, and writes them to the artifact `stages`, whatever became of the run.
    """
    async with recovery(log=get_run_logger().warning):
        stages = await asyncio.to_thread(read_graph, output)
        names = None if output is None else [stage.name for stage in stages]
        run = GraphRun(await asyncio.to_thread(reasons, names), concurrency=concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for stage in stages:
                    run.add(stage)
                    run.final_states[stage.name] = group.create_task(run.run_stage(stage))
        finally:
            await write_table(list(run.results.values()))
        return list(run.results.values())


class GraphRun:
    """One run of the graph: the reasons of the stages that are out of date, the results, and the limits."""

    def __init__(self, out_of_date: dict[str, str], *, concurrency: int) -> None:
        self.out_of_date = out_of_date
        self.results: dict[str, StageResult] = {}
        self.final_states: dict[str, asyncio.Task[State | None]] = {}
        self.before: dict[str, set[str]] = {}  # every stage that a stage depends on, at any distance
        self.concurrency = concurrency
        self.processes, self.gpu, self.status = asyncio.Semaphore(concurrency), asyncio.Semaphore(1), asyncio.Lock()

    def add(self, stage: Stage) -> None:
        """Add a stage after those that it depends on; it is not reached yet."""
        self.results[stage.name] = StageResult(stage=stage.name)
        self.before[stage.name] = set(stage.upstream).union(*(self.before[name] for name in stage.upstream))

    async def run_stage(self, stage: Stage) -> State | None:
        """Run the stage after its upstream stages; the final state of its task, None where it was not reached."""
        upstream = [await self.final_states[name] for name in stage.upstream]
        if not all(self.results[name].up_to_date for name in stage.upstream):
            return None
        if not await self._is_out_of_date(stage):
            return await self._run_task(stage, upstream)
        async with self.gpu if stage.gpu else contextlib.nullcontext(), self.processes:
            failed = any(result.state == FAILED for result in self.results.values())
            return None if failed else await self._run_task(stage, upstream)

    async def _is_out_of_date(self, stage: Stage) -> bool:
        """By DVC's status as of the start of the run; behind a stage that ran, by its status now."""
        if any(self.results[name].state != CACHED for name in stage.upstream):
            self.out_of_date.pop(stage.name, None)
            async with self.status:  # DVC tries its lock twice a second only
                self.out_of_date |= await asyncio.to_thread(reasons, [stage.name])
        return stage.name in self.out_of_date

    async def _run_task(self, stage: Stage, upstream: list[State | None]) -> State:
        result = self.results[stage.name]
        result.why = self.out_of_date.get(stage.name)
        environment = beside_others() if self._shares_cores(stage.name) else {}
        run = as_task(stage, result, environment)
        state: State = await run(return_state=True, wait_for=upstream)  # type: ignore[misc]
        if not result.up_to_date:
            result.state = FAILED
            result.cause = result.cause or f"{stage.name}: {state.message}"
        return state

    def _shares_cores(self, name: str) -> bool:
        """Whether a stage that is not cached may run beside this one: neither depends on the other."""
        return self.concurrency > 1 and any(
            other not in self.before[name] | {name} and name not in self.before[other] and self._may_run(other)
            for other in self.final_states
        )

    def _may_run(self, name: str) -> bool:
        if self.final_states[name].done():
            return False
        return name in self.out_of_date or any(self.results[one].state != CACHED for one in self.before[name])


def as_task(
    stage: Stage, result: StageResult, environment: Mapping[str, str] | None = None
) -> Task[[], Coroutine[Any, Any, State]]:
    """The stage as a task with the options of its `meta`; what becomes of it is written to `result`.

    `environment` is added to that of its process.
    """

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
        if result.why is None:
            result.state = CACHED
            return Completed(name="Cached", message="up to date")
        started = time.perf_counter()
        try:
            return await _reproduce(stage, result, environment)
        finally:
            result.seconds = round(time.perf_counter() - started, 1)

    return reproduce


async def _reproduce(stage: Stage, result: StageResult, environment: Mapping[str, str] | None) -> State:
    logger, result.cause = get_run_logger(), None
    logger.info(f"out of date: {result.why}")
    made = await attempt(stage.name, logger.info, environment)
    if made.reproduction.state not in STATES:
        result.cause = made.cause
        return Failed(message=result.cause)
    result.peak_memory, result.state = made.peak_memory, STATES[made.reproduction.state]
    return Completed(name=None if result.state == RAN else result.state.capitalize())


async def write_table(results: list[StageResult]) -> None:
    """Write the table of a run as an artifact: what became of each stage, seconds, peak memory, and why it ran."""
    table = [{column: getattr(result, column) for column in COLUMNS} for result in results]
    await acreate_table_artifact(key="stages", table=table, description="What became of each stage")


def failure_of(results: list[StageResult]) -> str | None:
    """The cause of the first failure and the command to look closer, in two lines; None without a failure."""
    if all(result.up_to_date for result in results):
        return None
    first = next(result for result in results if result.cause)
    return f"{first.cause}\nlook closer: dvc repro --single-item {first.stage}"


def summary(results: list[StageResult]) -> str:
    """How many stages are in each state, such as "3 cached, 2 ran"."""
    states = [result.state for result in results]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
