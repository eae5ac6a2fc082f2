"""What the server does by itself: dead runs are told, tried once more, and late ones that nobody needs are dropped.

    python -m flows.ops.automations    # brings those on the server of PREFECT_API_URL to what stands here

A run whose worker was killed stays `Running` for ever unless somebody misses its heartbeat. Here a lost heartbeat makes
it `Crashed`, a first crash is scheduled once more, and each crash is told to `flows.ops.notify` of params.yaml. (A failure
is told by the flow itself, see flows/ops/notify.py.)
"""

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
HEARTBEAT = 30  # seconds: the least that Prefect allows; flows.heartbeat_frequency of prefect.toml says the same
MISSED = 3 * HEARTBEAT + 5
LATE = timedelta(hours=6)
TOLD = timedelta(seconds=20)  # within which everybody has told of a death who knows of it
_RUN: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
_EACH = {"prefect.resource.id"}


def _events(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


HEARD, CRASHED = _events("heartbeat"), _events("Crashed")
AGAIN = _events("AwaitingRetry", "Scheduled", "Pending", "Running")
ENDED = _events("Completed", "Failed", "Cancelled", "Crashed")


def automations(notify: UUID | None) -> Iterator[AutomationCore]:
    """All of them; those that notify only where a block document (its id) is given."""
    yield AutomationCore(
        name=f"{PREFIX}a lost heartbeat is a crash",
        description=f"No heartbeat for {MISSED} seconds: the process of the run is dead.",
        trigger=_silence(HEARD, HEARD | ENDED, timedelta(seconds=MISSED)),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                force=False,  # else it undoes a Completed that was told late
                message="the process of this run died: no heartbeat; what it had finished stays, it is tried once more",
            )
        ],
    )
    yield AutomationCore(
        name=f"{PREFIX}a first crash is tried again",
        description="Stages that are finished are not run again: DVC knows them.",
        # not at once: the worker tells the same death again, and would undo the retry
        trigger=_silence(CRASHED, AGAIN, TOLD, {**_RUN, "prefect.run-count": "1"}),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", force=False, message="tried once more after a crash"
            )
        ],
    )
    yield AutomationCore(
        name=f"{PREFIX}late runs that nobody needs are dropped",
        description=f"After an outage of more than {LATE}, the newest run does for all.",
        trigger=_silence(_events("Late"), _events("Pending", "Running") | ENDED, LATE),
        actions=[CancelFlowRun()],
    )
    if notify is not None:
        yield AutomationCore(
            name=f"{PREFIX}a crash is told",
            description="The first one, which is tried again, and a second one.",
            trigger=EventTrigger(
                posture=Posture.Reactive,
                expect=CRASHED,
                match=_RUN,
                for_each=_EACH,
                threshold=1,
                within=TOLD,  # once in that time: two may tell of one death
            ),
            actions=[
                SendNotification(
                    block_document_id=notify,
                    subject="{{ flow.name }} {{ flow_run.state.name }}",
                    body="{{ flow_run.name }}: {{ flow_run.state.message }}\n"
                    "Look closer: prefect flow-run logs {{ flow_run.id }}",
                )
            ],
        )


def _silence(
    after: set[str], expected: set[str], within: timedelta, match: dict[str, str | list[str]] = _RUN
) -> EventTrigger:
    """When, for a run, none of the `expected` events comes `within` that time after one of the first."""
    return EventTrigger(
        posture=Posture.Proactive, after=after, expect=expected, match=match, for_each=_EACH, threshold=1, within=within
    )


async def bring_up() -> list[str]:
    """Create or update the automations on the server, and remove those of this project that are no more; the names."""
    wanted = {automation.name: automation for automation in automations(await block_to_tell())}
    async with get_client() as client:
        held = [one for one in await client.read_automations() if one.name.startswith(PREFIX)]
        for old in held:
            if old.name not in wanted:
                await client.delete_automation(old.id)
        known = {old.name: old.id for old in held}
        for name, automation in wanted.items():
            if name in known:
                await client.update_automation(known[name], automation)
            else:
                await client.create_automation(automation)
    return list(wanted)


async def block_to_tell() -> UUID | None:
    """The id of the block that params.yaml names; None, and a sentence, where the server does not have it."""
    name = params.load().flows.notify
    if name is None:
        return None
    kind, _, plain = name.partition("/")
    async with get_client() as client:
        try:
            return (await client.read_block_document_by_name(plain, kind)).id
        except ObjectNotFound:
            print(
                f"flows.ops.notify: {name} is not on this server, crashes are told to nobody: run `python -m "
                f"flows.ops.notify --name {plain} --url URL`, then `python -m flows.ops.automations`",
                file=sys.stderr,
            )
            return None


if __name__ == "__main__":
    print(*asyncio.run(bring_up()), sep="\n")
