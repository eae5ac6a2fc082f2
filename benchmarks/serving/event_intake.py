"""Benchmark: how many events per second does POST /events acknowledge, and does memory stay flat over a million?

    python -m benchmarks.serving.event_intake --events 1000000 --json event_intake.json

A closed loop: some connections, each of which sends its next request of 100 events after the answer to the one before.
One worker, its consumer and the sender share this machine. First the queue is a SQLite file in TMPDIR, then a stream in
a Redis that writes each command to its disk before it answers (`appendfsync always`). All events are different.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS


def event_intake(
    *,
    json: Path = ARTIFACTS / "event_intake.json",
    project: Path | None = None,
    events: int = 200_000,
    connections: int = 4,
    only: str | None = None,
) -> None:
    """Send events as fast as they are acknowledged; print and write rates, and the memory of service and consumer.

    Args:
        json: file of the report.
        project: folder of a project whose model reads session features; default: a small one is made and trained.
        events: how many are sent to each store.
        connections: requests in flight.
        only: sqlite or redis; default: both.
    """
    from benchmarks.serving.event_rates import run

    run(json, project=project, events=events, connections=connections, only=only)


if __name__ == "__main__":
    stage.run(event_intake)
