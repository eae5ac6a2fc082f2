"""Benchmark: events and rankings while the consumer, the service or the Redis is killed (-9), again and again.

    python -m benchmarks.serving.event_chaos --times 5 --json event_chaos.json
    python -m benchmarks.serving.event_chaos --only "consumer, Redis" --json chaos.json    # words of the faults

What was killed is started again after two seconds, as a supervisor would. The client sends a request of events again
until it is acknowledged. In the end the sessions in the store are compared with a plain list of all that was sent.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS


def event_chaos(
    *,
    json: Path = ARTIFACTS / "event_chaos.json",
    project: Path | None = None,
    times: int = 5,
    period: float = 30,
    rate: float = 200,
    rankings: float = 50,
    only: str = "",
) -> None:
    """Cause one fault after another under a load of events and rankings; print the table and write it to `json`.

    Args:
        json: file of the report.
        project: folder of a project whose model reads session features; default: a small one is made and trained.
        times: how often each fault happens.
        period: seconds of load for each of them.
        rate: events per second: half of them impressions, half the labels of earlier ones.
        rankings: rankings per second, of 200 candidates.
        only: the faults whose names contain one of these words, with commas between them; empty: all.
    """
    from benchmarks.serving.event_faults import run

    run(json, project=project, load=(rate, rankings), times=times, period=period, only=only)


if __name__ == "__main__":
    stage.run(event_chaos)
