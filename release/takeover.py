"""What became of a new champion: which running services were observed to take it up, and what is left to do."""

import time
from collections.abc import Sequence
from pathlib import Path

from serving.ranking.followers import Following, followers

LOAD_SECONDS = 30.0  # for a service to load a model, after it has seen the link
POLL_SECONDS = 0.2


def observe(folder: Path, tag: str) -> list[Following]:
    """The running services that follow a link in `folder`, when each has taken `tag` into use or refused it.

    Or after the time in which each should have.
    """
    started = time.monotonic()
    while True:
        running = followers(folder)
        limit = max((one.seconds for one in running), default=0.0) + LOAD_SECONDS
        if all(tag in (one.in_use, one.refused) for one in running) or time.monotonic() - started > limit:
            return running
        time.sleep(POLL_SECONDS)


def sentence(tag: str, running: Sequence[Following], start: str) -> str:
    """What was observed of the `running` services, and the command (`start`) that is needed where they did not follow.

    A service of a release that was packed before services could be observed is not among them.
    """
    took = [one.process for one in running if one.in_use == tag]
    left = [one for one in running if one.in_use != tag]
    parts = [f"in use by the running process {', '.join(took)}"] if took else []
    for one in left:
        reason = one.reason if one.refused == tag else "it did not answer in time, its log says why"
        parts.append(f"process {one.process} serves {one.in_use} on: {reason}")
    if left:
        return f"{'; '.join(parts)}; stop the service and start it again: {start}"
    return "; ".join(parts) or f"no running service was seen to follow it: {start} starts one"
