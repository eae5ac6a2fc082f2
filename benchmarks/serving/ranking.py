"""Benchmark: one user ranked against many items, with the network's forward and with partial activations.

Random rows and weights, in the shape of the simulation: six scenarios, two tasks, half of the columns the item's. Each
round scores the same request in every mode, so that other load of the machine affects all alike; on a busy machine the
fastest round says more than the median.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS


def ranking(
    *,
    json: Path = ARTIFACTS / "ranking.json",
    items: tuple[int, ...] = (200, 1000),
    threads: tuple[int, ...] = (1, 2),
    rounds: int = 200,
    users: int = 12_000,
    catalogue: int = 3_000,
    exported: bool = False,
) -> None:
    """Time requests for each number of `items` and of `threads`; print the table and write it to `json`.

    Args:
        json: file of the report.
        items: numbers of items of a request.
        threads: numbers of torch threads.
        rounds: requests of each combination.
        users: users that the network knows.
        catalogue: items that the network knows.
        exported: also time the network as models.export exports and compiles it (minutes before the start).
    """
    from benchmarks.serving.scoring_modes import run

    run(json, items=items, threads=threads, rounds=rounds, users=users, catalogue=catalogue, exported=exported)


if __name__ == "__main__":
    stage.run(ranking)
