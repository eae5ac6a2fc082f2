"""Benchmark: what a request pays for validation, for its metrics and for the impression log, each alone.

    python -m benchmarks.serving.per_request --json per_request.json

Microseconds for 1,000 candidates; the fastest of the rounds, since other load of the machine only adds to it, and the
median.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS


def per_request(*, json: Path = ARTIFACTS / "per_request.json", rounds: int = 300) -> None:
    """Time each part `rounds` times; print the table with its limits and write it to `json`."""
    from benchmarks.serving.request_overhead import run

    run(json, rounds)


if __name__ == "__main__":
    stage.run(per_request)
