"""Benchmark: the service under hostile requests of every kind, by several clients; is the workers' memory flat?

    python -m benchmarks.serving.hostile --seconds 3600 --workers 2 --clients 4 --json hostile.json

Among them: ids and texts of 1 MB, unknown ids, nested and broken JSON, numbers of 100,000 digits, headers without end,
connections that send or read nothing, bodies that never end, batches with explanations, unknown paths. Every 10
seconds the memory of each worker is sampled, and a normal request is sent. Passed: the fitted growth of each worker's
own memory after the warm-up is small, no worker ended, no answer is a 500, and the last normal requests are answered.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS, MODEL, ONLINE_STORE


def hostile(
    *,
    json: Path = ARTIFACTS / "hostile.json",
    model: Path = MODEL,
    online: Path = ONLINE_STORE,
    seconds: float = 3600,
    workers: int = 2,
    clients: int = 4,
    seed: int = 1,
) -> None:
    """Send hostile requests for `seconds`; print and write the report.

    Args:
        json: file of the report.
        model: folder of the model.
        online: SQLite file of the online store.
        seconds: length of the load; below half an hour there is no verdict on the memory.
        workers: worker processes of the service.
        clients: processes that send requests.
        seed: of the requests.
    """
    from benchmarks.serving.hostile_load import run

    run(json, model=model, online=online, seconds=seconds, workers=workers, clients=clients, seed=seed)


if __name__ == "__main__":
    stage.run(hostile)
