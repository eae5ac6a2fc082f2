"""Benchmark: the service while something is broken: a steady load, a fault in the middle, the outcome of each request.

    python -m benchmarks.serving.faults --json faults.json
    python -m benchmarks.serving.faults --only "SQLite, snapshot, weights" --json files.json    # a word of each name

Redis killed, frozen, slow by 50 ms, full; SQLite locked; the item snapshot truncated; a byte of the weights changed.
Each fault begins after 4 seconds and is undone after 8 more. Everything happens to copies.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS, FEATURES, MODEL, ONLINE_STORE


def faults(
    *,
    json: Path = ARTIFACTS / "faults.json",
    model: Path = MODEL,
    online: Path = ONLINE_STORE,
    features: Path = FEATURES,
    only: str = "",
    rate: float = 40.0,
) -> None:
    """Cause one fault after another under a load; print the table and write it to `json`.

    Args:
        json: file of the report.
        model: folder of the model, which is copied.
        online: SQLite file of the online store, which is copied.
        features: folder of the feature views, from which Redis is filled.
        only: the faults whose names contain one of these words, with commas between them; empty: all.
        rate: requests per second.
    """
    from benchmarks.serving.fault_injection import run

    run(json, model=model, online=online, features=features, only=only, rate=rate)


if __name__ == "__main__":
    stage.run(faults)
