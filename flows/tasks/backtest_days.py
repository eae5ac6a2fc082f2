"""The days of a backtest: what the pipeline would have done on each day of a log, in a copy of the project.

The log is read once as a whole, because the outcome of a day is known only later. A line for each finished day is a
JSON file; a day that has one is not run again.
"""

import datetime
import json
import shutil
import time
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from pydantic import ConfigDict

from common import params
from common.errors import PipelineError
from common.exit_status import NO_VERDICT
from common.files import replacing_folder, write_text
from common.paths import CHAMPION, CHAMPION_MODEL, FEATURES, NIGHTLY_START, PARAMS, SCHEMA, SERVING_STORE, VALIDATED
from flows.process.document import Document, run_for_document
from flows.process.python_module import CommandError
from flows.stages.run import failure_of, run_stages
from flows.tasks.drift_report import OUT as DRIFT
from flows.tasks.drift_report import report_drift
from flows.tasks.online_store import refresh, store_options
from flows.tasks.promotion import Verdict, challenge, sentence
from flows.tasks.training_start import write_start
from flows.workspace.project_copy import copy_project, set_params

Row = dict[str, Any]  # a finished day: a row of the table of monitoring.timeline
ARGUMENTS = "asked.json"  # what the backtest was started with; the name stays, finished backtests have it
DAYS_BEFORE = 7  # days of the log that the first model is trained on, unless --first-day is given
DAY = datetime.timedelta(days=1)


class Figures(Document):
    """figures.json of release.replay: every metric of the day, as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    rows: int


class Timeline(Document):
    """What the flow reads of timeline.json, which is written after timeline.md and timeline.svg: the summary."""

    sentence: str


class BacktestError(PipelineError):
    """The backtest cannot go on, and why."""


class Backtest:
    """The folder `out`: a copy of the project, the whole log, a line for each finished day, the first champion."""

    def __init__(self, out: Path, arguments: dict[str, Any], *, again: bool) -> None:
        """Begin, or go on with what is in `out`; raises BacktestError where that was begun with other arguments."""
        self.out, self.project, self.days, self.log = out, out / "project", out / "days", out / "log"
        self.arguments, self.first_champion = arguments, out / "frozen"
        known = out / ARGUMENTS
        if again and known.exists():
            shutil.rmtree(out)
        if known.exists() and (other := json.loads(known.read_text())) != arguments:
            raise BacktestError(f"{out} holds another backtest, of {other}: --again to begin anew, or another --out")
        self.days.mkdir(parents=True, exist_ok=True)
        if not self.project.exists():
            copy_project(self.project, {"train.warm_start": str(NIGHTLY_START), **arguments["settings"]})
        known.write_text(json.dumps(arguments, indent=1) + "\n")

    async def run(self, as_of: datetime.date | None, first_day: datetime.date | None) -> Timeline:
        """Run all days that are not finished, then write the table. Raises CommandError, PipelineError."""
        days = await self._days_of_the_log()
        if not days or (len(days) <= DAYS_BEFORE and first_day is None):
            raise BacktestError(f"the log has {len(days)} days, no more than the first model needs: give --first-day")
        first = first_day or days[DAYS_BEFORE]
        previous: Row | None = None
        for day in [day for day in days if first <= day < (as_of or days[-1] + DAY)]:
            path = self.days / f"{day}.json"
            if not path.exists():
                row = await self.run_day(day, (day - first).days, previous)
                write_text(path, json.dumps(row, indent=1, allow_nan=False) + "\n")
            previous = json.loads(path.read_text())
        if previous is None:
            raise BacktestError(f"no day from {first} to {as_of}: the log goes from {days[0]} to {days[-1]}")
        options = {"--days": str(self.days), "--out": str(self.out)}
        return await run_for_document(Timeline, "monitoring.timeline", options, self.out / "timeline.json")

    async def run_day(self, day: datetime.date, number: int, previous: Row | None) -> Row:
        """A day from morning to evening: features, perhaps training and a challenge, serving, the drift report."""
        started, trigger = time.perf_counter(), self._training_trigger(number, previous)
        get_run_logger().info(f"{day}: {f'a model is trained ({trigger})' if trigger else 'no model is trained'}")
        set_params(PARAMS, {"dataset.until": str(day)})
        if trigger:
            write_start(full=number % self.arguments["full_fit_every"] == 0 or previous is None)
        await _build(None if trigger else FEATURES)
        delay = datetime.timedelta(minutes=params.load().aggregate.delay_minutes)
        as_of = datetime.datetime.combine(day, datetime.time(), datetime.UTC) + delay
        store = store_options(await refresh(as_of, SERVING_STORE))
        verdict = await challenge(store) if trigger else None
        champion = self._champion(verdict)
        figures = await replay_day(self, day, as_of)
        drift = await self._drift(day)
        return {
            "day": str(day),
            "model": champion,
            "trained": trigger,
            "gate": verdict and sentence(verdict),
            "released": bool(verdict) and champion != (previous and previous["model"]),
            "same": champion == (self.first_champion / "tag").read_text(),
            **figures,
            **drift,
            "seconds": round(time.perf_counter() - started, 1),
        }

    def served(self, day: datetime.date) -> Path:
        """The folder of what the champion served on a day."""
        return self.out / "served" / str(day)

    async def _drift(self, day: datetime.date) -> dict[str, str]:
        """The drift verdict on what the champion served, with its reason; "none" where there is no verdict."""
        kept = self.served(day) / "judged"
        shutil.rmtree(kept, ignore_errors=True)  # a run that was killed may have left that of this day
        try:
            report = await report_drift(day + DAY, 1, str(self.served(day) / "served.parquet"), CHAMPION_MODEL)
        except CommandError as error:
            if error.status != NO_VERDICT:
                raise
            return {"verdict": "none", "reason": str(error).splitlines()[0]}
        with replacing_folder(kept) as partial:
            shutil.copytree(DRIFT, partial, dirs_exist_ok=True)
        return {"verdict": report.verdict, "reason": report.reason}

    async def _days_of_the_log(self) -> list[datetime.date]:
        """The days with impressions. The first call reads the log as a whole and keeps its validated events."""
        if not self.log.exists():
            await _build(VALIDATED)
            with replacing_folder(self.log) as partial:
                shutil.copytree(VALIDATED, partial, dirs_exist_ok=True)
        return sorted(datetime.date.fromisoformat(path.name[4:]) for path in (self.log / "events").glob("day=*"))

    def _training_trigger(self, number: int, previous: Row | None) -> str | None:
        """Why a model is trained this morning: first, schedule or act; None where none is."""
        if previous is None:
            return "first"
        if number % self.arguments["retrain_every"] == 0:
            return "schedule"
        return "act" if self.arguments["on_act"] and previous["verdict"] == "act" else None

    def _champion(self, verdict: Verdict | None) -> str:
        """The tag of the champion; the first champion is kept. Raises BacktestError where there is none."""
        if not CHAMPION_MODEL.exists():
            reason = sentence(verdict) if verdict else "no model was released"
            raise BacktestError(f"there is no champion to serve with: {reason}")
        tag = CHAMPION.resolve().name
        if not self.first_champion.exists():
            with replacing_folder(self.first_champion) as partial:
                shutil.copytree(CHAMPION_MODEL, partial / "model")
                (partial / "tag").write_text(tag)
        return tag


async def _build(output: Path | None) -> None:
    """Run the stages that are out of date (those that `output` needs); raises BacktestError with the first cause."""
    if failure := failure_of(await run_stages(output=output)):
        raise BacktestError(f"{failure} in {Path.cwd()}")


@task(cache_policy=NO_CACHE, task_run_name="serve {day}")
async def replay_day(backtest: Backtest, day: datetime.date, as_of: datetime.datetime) -> dict[str, Any]:
    """The champion's metrics on the impressions of the day, beside those of the first champion."""
    out = backtest.served(day)
    figures = await run_for_document(
        Figures,
        "release.replay",
        {
            "--day": str(day),
            "--events": str(backtest.log / "events"),
            "--schema": str(SCHEMA),
            "--features": str(FEATURES),
            "--online": str(SERVING_STORE),
            "--as-of": f"{as_of:%Y-%m-%dT%H:%M:%S}",
            "--model": str(CHAMPION_MODEL),
            "--frozen": str(backtest.first_champion / "model"),
            "--out": str(out),
        },
        out / "figures.json",
    )
    return figures.model_dump(exclude={"run"})
