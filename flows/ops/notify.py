"""Tell somebody by a Prefect block: who that is stands in params.yaml (`flows.ops.notify`), the address in the block.

    python -m flows.ops.notify --name team --url https://hooks.example.com/XXX    # makes custom-webhook/team, and tries it

`{{subject}}` and `{{body}}` of the block's JSON are replaced by the message.
"""

import argparse
import asyncio
from typing import Any

from prefect import Flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger
from prefect.states import State

from common import params

TEMPLATE = {"subject": "{{subject}}", "body": "{{body}}"}


async def tell(subject: str, body: str) -> None:
    """Send a message to the block of params.yaml, if there is one; that nobody could be told is logged, no more."""
    name = params.load().flows.notify
    if name is None:
        return
    try:
        block = await Block.aload(name)
        assert isinstance(block, NotificationBlock)
        await block.anotify(body=body, subject=subject)  # type: ignore[attr-defined]
    except Exception as error:  # whatever a service of others may raise: the run that told goes on
        get_logger("flows.ops.notify").warning("%s was not told %r: %s: %s", name, subject, type(error).__name__, error)


async def tell_failure(flow: Flow[Any, Any], flow_run: FlowRun, state: State) -> None:
    """The hook of a flow that failed or crashed: its name, the cause in one line, the command to look closer."""
    await tell(f"{flow.name}: {str(state.name).lower()}", state.message or f"flow run {flow_run.name} says no more")


async def create(name: str, url: str) -> None:
    """Save the block custom-webhook/`name`, and send a first message to `url`."""
    block = CustomWebhookNotificationBlock(name=name, url=url, json_data=TEMPLATE, headers=None, cookies=None)
    await block.asave(name, overwrite=True)
    await block.anotify(body="notifications of the pipeline come here", subject="hello")
    print(
        f"custom-webhook/{name} is saved and was told hello. In params.yaml: flows: {{ notify: custom-webhook/{name} }}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.ops.notify", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--url", required=True)
    chosen = parser.parse_args()
    asyncio.run(create(chosen.name, chosen.url))
