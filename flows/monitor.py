"""Is the newest data still what the model knows? `python -m monitoring.drift` as a flow that acts on the verdict.

    python -m flows.monitor --as-of 2026-01-18 --days 2    # judges the two days before

ok: said. watch: said, and somebody is told. act: told, and the pipeline starts. No verdict: the run fails.
"""

import argparse
import asyncio
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from common import params
from flows.ops.notify import tell, tell_failure
from flows.ops.reports_index import write_index
from flows.process.python_module import CommandError, run_module
from flows.workspace.dates import finish, skipped
from flows.workspace.lock import alone

CURRENT, OUT = "data/training/*.parquet", Path("artifacts/flows/monitor")
CHAMPION, NEWEST = Path("artifacts/releases/champion/model"), Path("artifacts/models/hinet")
VERDICTS = (0, 1, 2)  # exit statuses of monitoring.drift: ok, watch, act
SHOWN = 10  # findings of a page
TOLD = 3  # findings of a message


@flow(name="monitor", flow_run_name="monitor", on_failure=[tell_failure])
async def monitor(
    as_of: datetime.date | None = None,
    days: int = 2,
    current: str = CURRENT,
    reference: Path | None = None,
    again: bool = False,
) -> State:
    """Judge the last `days` days before a date (that for which the run was scheduled) by the model in `reference`.

    Without one it is the champion; before the first release, the newest model. A date that is done is skipped,
    unless `again`.
    """
    as_of = as_of or runtime.flow_run.scheduled_start_time.date()
    try:
        async with alone(log=get_run_logger().info):
            if not again and (done := skipped("monitor", as_of)):
                return done
            report = await judge(as_of, days, current, reference or (CHAMPION if CHAMPION.exists() else NEWEST))
    except CommandError as error:
        return Failed(message=str(error))
    await write_index()
    await acreate_markdown_artifact(
        key="drift-report", markdown=page(report), description="Verdict on the newest window"
    )
    state = await act_on(report, as_of)
    finish("monitor", as_of)
    return state


@task(cache_policy=NO_CACHE)
async def judge(as_of: datetime.date, days: int, current: str, reference: Path) -> dict[str, Any]:
    """The report (drift.json) on the `days` days before `as_of`; raises CommandError where there is no verdict."""
    first, last = (as_of - datetime.timedelta(days=ago) for ago in (days, 1))
    options = {
        "--current": current,
        "--reference": str(reference),
        "--out": str(OUT),
        "--first-day": str(first),
        "--last-day": str(last),
        "--validation": "reports/validation.json",
    }
    if not Path(options["--validation"]).exists():
        del options["--validation"]
    await run_module("monitoring.drift", options, good=VERDICTS)
    report: dict[str, Any] = json.loads((OUT / "drift.json").read_text())
    return report


async def act_on(report: dict[str, Any], as_of: datetime.date) -> State:
    """What the verdict asks for; the state of the run is named after it."""
    verdict, body = report["verdict"], message(report)
    if verdict == "ok":
        return Completed(message=report["reason"])
    if verdict == "act":
        body = f"{await start(params.load().flows.on_act, as_of)}\n{body}"
    await tell(f"monitor: {verdict}", body)
    return Completed(name=verdict.capitalize(), message=body)


async def start(deployment: str, as_of: datetime.date) -> str:
    """Start `deployment` as of that date, once however often it is asked for; the sentence that says so."""
    key = f"monitor-{as_of}"
    try:
        run = await arun_deployment(
            deployment, parameters={"as_of": str(as_of), "again": True}, timeout=0, idempotency_key=key
        )
    except ObjectNotFound:
        return f"there is no deployment {deployment} to start: run `python -m flows.pipeline --as-of {as_of} --again`"
    return f"{deployment} was started: run {run.name} ({run.id})"


def message(report: dict[str, Any]) -> str:
    """What a person has to know: why, the gravest findings, what to do, where to look."""
    found = [f"- {finding['sentence']}" for finding in report["findings"][:TOLD]]
    return "\n".join([report["reason"], *found, report["next_step"], f"look closer: {OUT}/index.html"])


def page(report: dict[str, Any]) -> str:
    """The verdict and the findings: Markdown."""
    window = f"{report['current']['first_day']} to {report['current']['last_day']}, {report['current']['rows']:,} rows"
    rows = "".join(f"| {f['verdict']} | {f['kind']} | {f['sentence']} |\n" for f in report["findings"][:SHOWN])
    more = len(report["findings"]) - SHOWN
    table = f"| verdict | kind | finding |\n|---|---|---|\n{rows}" if rows else "Nothing was found.\n"
    rest = f"\n{more:,} more in" if more > 0 else "\nAll figures:"
    head = f"# {report['verdict']}: {window}\n\n{report['reason']} {report['next_step']}\n\n"
    return f"{head}{table}{rest} `{OUT}/index.html`\n"


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = argparse.ArgumentParser(prog="python -m flows.monitor", description=monitor.description)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="date, e.g. 2026-01-18")
    parser.add_argument("--days", type=int, default=2, help="of the window before it (2)")
    parser.add_argument("--current", default=CURRENT, help=f"file or pattern ({CURRENT})")
    parser.add_argument("--reference", type=Path, help="folder of the model (the champion)")
    parser.add_argument("--again", action="store_true", help="even if that date is done")
    run = monitor(**vars(parser.parse_args()), return_state=True)
    state: State = asyncio.run(run)  # type: ignore[arg-type]
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return int(state.is_failed())


if __name__ == "__main__":
    sys.exit(main())
