"""Sends notifications through the Prefect block that params.yaml names (`flows: notify`); the block has the address.

    python -m flows.ops.notify --name team --url https://hooks.example.com/XXX    # makes and tries custom-webhook/team

`{{subject}}` and `{{body}}` of the block's JSON are replaced by the message.
"""

import argparse
import asyncio
from typing import Any

from prefect import Flow, State
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger

from common import params

TEMPLATE = {"subject": "{{subject}}", "body": "{{body}}"}


async def notify(subject: str, body: str) -> None:
    """Send a message through the block of params.yaml, if there is one; a message that cannot be sent is logged."""
    name = params.load().flows.notify
    if name is None:
        return
    try:
        block = await Block.aload(name)
        assert isinstance(block, NotificationBlock)
        await block.anotify(body=body, subject=subject)  # type: ignore[attr-defined]
    except Exception as error:  # whatever the service behind the block may raise: the run goes on
        get_logger("flows.ops.notify").warning(
            "%s: %r was not sent: %s: %s", name, subject, type(error).__name__, error
        )


async def notify_failure(flow: Flow[Any, Any], flow_run: FlowRun, state: State) -> None:
    """Send the message of a flow that failed: its name, the cause in one line, the command to look closer."""
    await notify(f"{flow.name}: {str(state.name).lower()}", state.message or f"flow run {flow_run.name}: no message")


async def create_block(name: str, url: str) -> None:
    """Save the block custom-webhook/`name`, and send a first message to `url`."""
    block = CustomWebhookNotificationBlock(name=name, url=url, json_data=TEMPLATE, headers=None, cookies=None)
    await block.asave(name, overwrite=True)
    await block.anotify(body="notifications of the pipeline come here", subject="hello")
    print(
        f"custom-webhook/{name} is saved and was sent hello. In params.yaml: flows: {{ notify: custom-webhook/{name} }}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.ops.notify", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--url", required=True)
    arguments = parser.parse_args()
    asyncio.run(create_block(arguments.name, arguments.url))
