"""The automations of the Prefect server: crashed runs are detected, notified and retried once, outdated runs cancelled.

    python -m flows.ops.automations    # creates or updates them on the server of PREFECT_API_URL

A run whose worker was killed stays `Running` for ever unless its missing heartbeat is noticed. Here a lost heartbeat
makes it `Crashed`, a first crash is scheduled once more, and each crash is sent to the block of params.yaml
(`flows: notify`). (A failure is sent by the flow itself, see flows/ops/notify.py.)
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CancelFlowRun, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from common import params

PREFIX = "hinet: "
HEARTBEAT_SECONDS = 30  # the least that Prefect allows; flows.heartbeat_frequency of prefect.toml is the same
MISSED_SECONDS = 3 * HEARTBEAT_SECONDS + 5
LATE = timedelta(hours=6)
REPORTING = timedelta(seconds=20)  # within which every process that notices a crash has reported it
_RUN: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
_EACH = {"prefect.resource.id"}


def _events(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


HEARTBEAT, CRASHED = _events("heartbeat"), _events("Crashed")
RETRIED = _events("AwaitingRetry", "Scheduled", "Pending", "Running")
FINAL = _events("Completed", "Failed", "Cancelled", "Crashed")


def automations(notify: UUID | None) -> Iterator[AutomationCore]:
    """All automations; the notification of a crash only where the id of a block document is given."""
    yield AutomationCore(
        name=f"{PREFIX}a lost heartbeat is a crash",
        description=f"No heartbeat for {MISSED_SECONDS} seconds: the process of the run is dead.",
        trigger=_absence(HEARTBEAT, HEARTBEAT | FINAL, timedelta(seconds=MISSED_SECONDS)),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                force=False,  # else it undoes a Completed that was reported late
                message="the process of this run died: no heartbeat; finished stages stay, it is tried once more",
            )
        ],
    )
    yield AutomationCore(
        name=f"{PREFIX}a first crash is retried",
        description="Finished stages do not run again: DVC holds them to be up to date.",
        # not at once: the worker reports the same crash again, and would undo the retry
        trigger=_absence(CRASHED, RETRIED, REPORTING, {**_RUN, "prefect.run-count": "1"}),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", force=False, message="tried once more after a crash"
            )
        ],
    )
    yield AutomationCore(
        name=f"{PREFIX}outdated late runs are cancelled",
        description=f"After an outage of more than {LATE}, the newest run does the work of all.",
        trigger=_absence(_events("Late"), _events("Pending", "Running") | FINAL, LATE),
        actions=[CancelFlowRun()],
    )
    if notify is not None:
        yield _notification(notify)


def _notification(block: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}a crash is notified",
        description="The first one, which is retried, and a second one.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect=CRASHED,
            match=_RUN,
            for_each=_EACH,
            threshold=1,
            within=REPORTING,  # once in that time: two processes may report one crash
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="{{ flow.name }} {{ flow_run.state.name }}",
                body="{{ flow_run.name }}: {{ flow_run.state.message }}\n"
                "Look closer: prefect flow-run logs {{ flow_run.id }}",
            )
        ],
    )


def _absence(
    after: set[str], expected: set[str], within: timedelta, match: dict[str, str | list[str]] = _RUN
) -> EventTrigger:
    """Fires where, for a run, none of the `expected` events comes `within` that time after one of `after`."""
    return EventTrigger(
        posture=Posture.Proactive, after=after, expect=expected, match=match, for_each=_EACH, threshold=1, within=within
    )


async def apply_automations() -> list[str]:
    """Create or update the automations on the server, and delete older ones of this project; their names."""
    wanted = {automation.name: automation for automation in automations(await notification_block())}
    async with get_client() as client:
        present = [one for one in await client.read_automations() if one.name.startswith(PREFIX)]
        for old in present:
            if old.name not in wanted:
                await client.delete_automation(old.id)
        ids = {old.name: old.id for old in present}
        for name, automation in wanted.items():
            if name in ids:
                await client.update_automation(ids[name], automation)
            else:
                await client.create_automation(automation)
    return list(wanted)


async def notification_block() -> UUID | None:
    """The id of the block that params.yaml names; None, with a warning, where the server does not have it."""
    name = params.load().flows.notify
    if name is None:
        return None
    kind, _, document = name.partition("/")
    async with get_client() as client:
        try:
            return (await client.read_block_document_by_name(document, kind)).id
        except ObjectNotFound:
            print(
                f"flows.notify of params.yaml: {name} is not on this server, crashes are not notified: run "
                f"`python -m flows.ops.notify --name {document} --url URL`, then `python -m flows.ops.automations`",
                file=sys.stderr,
            )
            return None


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m flows.ops.automations", description=__doc__).parse_args()
    print(*asyncio.run(apply_automations()), sep="\n")
