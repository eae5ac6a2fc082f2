"""Benchmark: the service under a long load, and under a load while models and snapshots are exchanged.

    python -m benchmarks.serving.soak --seconds 1200 --workers 2 --json soak.json
    python -m benchmarks.serving.soak --exchanges 20 --workers 2 --json exchanges.json

A soak is passed without an error, with memory that does not grow, and with a p99 of the last minute of at most 1.2
times that of the first. Exchanges are passed without an error and without an answer that mixes two pairs of model and
snapshot: each pair answers every request beforehand, one at a time.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS, MODEL, ONLINE_STORE


def soak(
    *,
    json: Path = ARTIFACTS / "soak.json",
    model: Path = MODEL,
    online: Path = ONLINE_STORE,
    seconds: float = 1200,
    rate: float | None = None,
    workers: int = 1,
    exchanges: int = 0,
) -> None:
    """Load the service for `seconds`, or while models and snapshots are exchanged; print and write the report.

    Args:
        json: file of the report.
        model: folder of the model.
        online: SQLite file of the online store.
        seconds: length of a soak.
        rate: requests per second; default: half of the limit in a closed loop just before, and 40 with exchanges.
        workers: worker processes of the service.
        exchanges: exchange the model and the snapshot so many times each, instead of a soak.
    """
    from benchmarks.serving.long_load import run

    run(json, model=model, online=online, seconds=seconds, rate=rate, workers=workers, exchanges=exchanges)


if __name__ == "__main__":
    stage.run(soak)
