"""The days of a log, one after the other, as if each were today: what the pipeline would have done, and its worth.

    python -m flows.backtest --retrain-every 3 --set dataset.simulation.change.kind=taste

Every morning the features are brought up, a model is trained where one is due, and challenges the champion; then the
champion serves the day, and the day is judged by what the champion knows. It all happens in a copy of the project
(flows/workspace/project_copy.py) under `--out`. A day that is done stays done: run again, also after a kill, it goes on with the next.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from common import params
from common.errors import PipelineError
from flows.materialize import ONLINE, refresh
from flows.monitor import CHAMPION, judge
from flows.monitor import OUT as DRIFT
from flows.ops.notify import tell_failure
from flows.pipeline import closer
from flows.process.python_module import CommandError, run_module
from flows.release import as_it_is, challenge, sentence
from flows.stages.run import run_stages
from flows.workspace.lock import alone
from flows.workspace.project_copy import lay_out, set_params

Row = dict[str, Any]
OUT, PARAMS = Path("artifacts/flows/backtest"), Path("params.yaml")
VALIDATED, FEATURES = Path("data/validated"), Path("data/features")
BEFORE = 7  # days of the log that the first model has, unless it is told otherwise
DAY = datetime.timedelta(days=1)


class BacktestError(PipelineError):
    """The backtest cannot go on, and why."""


@flow(name="backtest", flow_run_name="backtest", on_failure=[tell_failure])
async def backtest(
    as_of: datetime.date | None = None,
    first_day: datetime.date | None = None,
    retrain_every: int = 1,
    on_act: bool = True,
    settings: dict[str, str] | None = None,
    out: Path = OUT,
    again: bool = False,
) -> State:
    """Roll over the days of the log from `first_day` (the eighth) up to `as_of`, not included (the end of the log).

    A model is trained every `retrain_every` days, and on the day after a verdict of act (`on_act`). `settings` are
    parameters by their dotted names. `again`: begin anew, on the project as it is now.
    """
    asked = {"first_day": str(first_day), "retrain_every": retrain_every, "on_act": on_act, "settings": settings or {}}
    try:
        rolled = Backtest(out.absolute(), asked, again=again)
        with contextlib.chdir(rolled.project):
            async with alone(log=get_run_logger().info):
                await rolled.roll(as_of, first_day)
    except (CommandError, PipelineError) as error:
        return Failed(message=str(error))
    text = (out / "timeline.md").read_text()
    await acreate_markdown_artifact(key="backtest", markdown=text, description="The days of a log, one by one")
    return Completed(message=f"{text.splitlines()[2]} See {out}/timeline.md")


class Backtest:
    """The folder `out`: a copy of the project, the log as it came later, a line for each day that is done."""

    def __init__(self, out: Path, asked: dict[str, Any], *, again: bool) -> None:
        """Begin, or go on with what stands there; raises BacktestError where that was asked for otherwise."""
        self.out, self.project, self.days, self.later = out, out / "project", out / "days", out / "log"
        self.asked, self.frozen = asked, out / "frozen"
        known = out / "asked.json"
        if again and known.exists():
            shutil.rmtree(out)
        if known.exists() and (held := json.loads(known.read_text())) != asked:
            raise BacktestError(f"{out} holds another backtest, of {held}: --again to begin anew, or another --out")
        self.days.mkdir(parents=True, exist_ok=True)
        if not self.project.exists():
            lay_out(self.project, asked["settings"])
        known.write_text(json.dumps(asked, indent=1) + "\n")

    async def roll(self, as_of: datetime.date | None, first_day: datetime.date | None) -> None:
        """All days that are not done yet, then the table of all that are. Raises CommandError, PipelineError."""
        known = await self._days_of_the_log()
        if not known or (len(known) <= BEFORE and first_day is None):
            raise BacktestError(f"the log has {len(known)} days, no more than the first model needs: give --first-day")
        first = first_day or known[BEFORE]
        before: Row | None = None
        for day in [day for day in known if first <= day < (as_of or known[-1] + DAY)]:
            path = self.days / f"{day}.json"
            if not path.exists():
                _write(path, await self.one(day, (day - first).days, before))
            before = json.loads(path.read_text())
        if before is None:
            raise BacktestError(f"no day from {first} to {as_of}: the log goes from {known[0]} to {known[-1]}")
        await run_module("monitoring.timeline", {"--days": str(self.days), "--out": str(self.out)})

    async def one(self, day: datetime.date, number: int, before: Row | None) -> Row:
        """A day, from its morning to its evening: what became of it."""
        started, due = time.perf_counter(), self._due(number, before)
        get_run_logger().info(f"{day}: {f'a model is trained ({due})' if due else 'nothing is trained'}")
        set_params(PARAMS, {"dataset.until": str(day)})
        await _stages(None if due else FEATURES)
        known_at = datetime.timedelta(minutes=params.load().aggregate.delay_minutes)
        moment = datetime.datetime.combine(day, datetime.time(), datetime.UTC) + known_at
        await refresh(moment, ONLINE)
        verdict = await challenge(as_it_is()) if due else None
        champion = self._champion(verdict)
        figures = await serve(day, moment, self)
        report = await judge(day + DAY, 1, str(self.out / "served" / str(day) / "served.parquet"), CHAMPION)
        shutil.copytree(DRIFT, self.out / "served" / str(day) / "judged", dirs_exist_ok=True)
        return {
            "day": str(day),
            "model": champion,
            "trained": due,
            "gate": verdict and sentence(verdict),
            "released": bool(verdict) and champion != (before and before["model"]),
            "same": champion == self.first_release,
            **figures,
            "verdict": report["verdict"],
            "reason": report["reason"],
            "seconds": round(time.perf_counter() - started, 1),
        }

    async def _days_of_the_log(self) -> list[datetime.date]:
        """Those with impressions. The first time the log is read as a whole: what happens on a day is known later."""
        if not self.later.exists():
            await _stages(VALIDATED)
            shutil.copytree(VALIDATED, self.later.with_suffix(".partial"), dirs_exist_ok=True)
            self.later.with_suffix(".partial").rename(self.later)
        return sorted(datetime.date.fromisoformat(path.name[4:]) for path in (self.later / "events").glob("day=*"))

    def _due(self, number: int, before: Row | None) -> str | None:
        """Why a model is trained this morning, if one is."""
        if before is None:
            return "first"
        if number % self.asked["retrain_every"] == 0:
            return "schedule"
        return "act" if self.asked["on_act"] and before["verdict"] == "act" else None

    def _champion(self, verdict: dict[str, Any] | None) -> str:
        """Its tag; the model of the first one is kept. Raises BacktestError where there is none."""
        if not CHAMPION.exists():
            told = sentence(verdict) if verdict else "no model was released"
            raise BacktestError(f"there is nobody to serve: {told}")
        if not self.frozen.exists():
            partial = self.frozen.with_suffix(".partial")
            shutil.copytree(CHAMPION, partial / "model", dirs_exist_ok=True)
            (partial / "tag").write_text(CHAMPION.resolve().parent.name)
            partial.rename(self.frozen)
        return CHAMPION.resolve().parent.name

    @property
    def first_release(self) -> str:
        """The tag of the model that is never retrained."""
        return (self.frozen / "tag").read_text()


async def _stages(until: Path | None) -> None:
    """Run what is stale of the stages (up to the output `until`); raises BacktestError with the cause of a failure."""
    if failed := [outcome for outcome in await run_stages(until=until) if not outcome.good]:
        raise BacktestError(f"{closer(failed)} in {Path.cwd()}")


@task(cache_policy=NO_CACHE, task_run_name="serve {day}")
async def serve(day: datetime.date, moment: datetime.datetime, rolled: Backtest) -> dict[str, Any]:
    """What the champion comes to on the impressions of the day, beside the model that is never retrained."""
    out = rolled.out / "served" / str(day)
    await run_module(
        "release.replay",
        {
            "--day": str(day),
            "--events": str(rolled.later / "events"),
            "--schema": "data/schema.json",
            "--features": str(FEATURES),
            "--online": str(ONLINE),
            "--moment": f"{moment:%Y-%m-%dT%H:%M:%S}",
            "--model": str(CHAMPION),
            "--frozen": str(rolled.frozen / "model"),
            "--out": str(out),
        },
    )
    figures: dict[str, Any] = json.loads((out / "figures.json").read_text())
    return figures


def _write(path: Path, row: Row) -> None:
    """All or nothing: a day is done, or it is not."""
    path.with_suffix(".partial").write_text(json.dumps(row, indent=1, allow_nan=False) + "\n")
    path.with_suffix(".partial").replace(path)


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = argparse.ArgumentParser(prog="python -m flows.backtest", description=backtest.description)
    date = datetime.date.fromisoformat
    parser.add_argument("--as-of", type=date, help="the day behind the last one, e.g. 2026-01-18 (end of the log)")
    parser.add_argument("--first-day", type=date, help="that a model serves (the eighth of the log)")
    parser.add_argument("--retrain-every", type=int, default=1, help="days (1)")
    parser.add_argument("--schedule-only", dest="on_act", action="store_false", help="no training because of a verdict")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="a parameter")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of the backtest ({OUT})")
    parser.add_argument("--again", action="store_true", help="begin anew, on the project as it is now")
    chosen = vars(parser.parse_args())
    chosen["settings"] = dict(pair.split("=", 1) for pair in chosen["settings"])
    state: State = asyncio.run(backtest(**chosen, return_state=True))  # type: ignore[arg-type]
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return int(state.is_failed())


if __name__ == "__main__":
    sys.exit(main())
