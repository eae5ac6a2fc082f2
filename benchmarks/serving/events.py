"""Benchmark: events of users beside rankings: how soon are they in the features, and what do they cost a ranking?

    python -m benchmarks.serving.events --seconds 30 --rate 500 --json events.json

Service, consumer and load generators share this machine. Measured are: rankings before, with and after the events, in
an open loop; the answer of POST /events; and the time from this answer to the feature, by the consumer's own histogram.
Before that, without a service, a backlog: how fast one process puts events into the queue, in calls of 100, how fast
the consumer applies them, and its peak memory. The queue lies in TMPDIR, whose disk decides how fast it is.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS


def events(
    *,
    json: Path = ARTIFACTS / "events.json",
    project: Path | None = None,
    seconds: float = 30,
    rate: float = 500,
    rankings: float = 50,
    backlog: int = 100_000,
) -> None:
    """Measure events beside rankings; print and write the report.

    Args:
        json: file of the report.
        project: folder of a project whose model reads session features; default: a small one is made and trained.
        seconds: length of each of the three loads.
        rate: events per second, in requests of 50.
        rankings: rankings per second, of 200 candidates.
        backlog: events that wait when the consumer is started.
    """
    from benchmarks.serving.event_load import run

    run(json, project=project, seconds=seconds, rate=rate, rankings=rankings, backlog=backlog)


if __name__ == "__main__":
    stage.run(events)
