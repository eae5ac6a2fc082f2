"""Benchmark: POST /rank under an open-loop load on loopback, and the parts of a request in one process.

    python -m benchmarks.serving --json serving.json             # three minutes
    python -m benchmarks.serving --json serving.json --full      # both stores, more sizes and rates

The same run measures three references: the same service written plainly (Feast read of all rows, eager forward,
@bentoml.api), an ASGI endpoint with constant answers, and, in one process, the forward and the Feast read of the same
rows alone. The load generator (benchmarks/serving/load.py) is a process on the same machine and competes for its cores:
its lateness is part of the latencies and reported with them.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS, FEATURES, MODEL, ONLINE_STORE


def serving(
    *,
    json: Path = ARTIFACTS / "serving.json",
    model: Path = MODEL,
    online: Path = ONLINE_STORE,
    features: Path = FEATURES,
    full: bool = False,
    seconds: float = 10,
    rounds: int = 100,
) -> None:
    """Measure the service on `model` and `online`, print the tables and write them to `json`.

    Args:
        json: file of the report.
        model: folder of the model.
        online: SQLite file of the online store.
        features: folder of the feature views, from which `full` fills Redis.
        full: both stores, more sizes and rates.
        seconds: length of each measurement.
        rounds: requests of each part in one process.
    """
    from benchmarks.serving.service_benchmark import run

    run(json, model=model, online=online, features=features, full=full, seconds=seconds, rounds=rounds)


if __name__ == "__main__":
    stage.run(serving)
