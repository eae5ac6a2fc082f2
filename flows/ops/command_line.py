"""How a flow is run from the command line: its message is printed, its final state becomes the exit status."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, cast

from prefect import Flow, State

from common.exit_status import DONE, FAILED


def parser_of(flow: Flow[..., Any]) -> argparse.ArgumentParser:
    """A parser without options for the module of `flow`, described by the first paragraph of its docstring."""
    description = (flow.description or "").split("\n\n")[0]
    return argparse.ArgumentParser(prog=f"python -m flows.{flow.name}", description=description)


def run_to_end(flow_run: object) -> int:
    """Run a flow that was called with return_state=True; prints its message, returns the exit status."""
    state = asyncio.run(cast(Coroutine[Any, Any, State], flow_run))
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return FAILED if state.is_failed() else DONE
