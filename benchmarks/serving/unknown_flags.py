"""Benchmark: what a ranking pays for its `unknown` flags, side by side in one process.

Each request is answered twice, from body to body, with the flags computed and without, in turns: first the one, then
the other. Times are those of the processor, so that other load of the machine counts less; medians, of the difference
that of the pairs.
"""

from pathlib import Path

from common import stage
from common.paths import ARTIFACTS, MODEL, ONLINE_STORE


def unknown_flags(
    *,
    json: Path = ARTIFACTS / "unknown_flags.json",
    model: Path = MODEL,
    online: Path = ONLINE_STORE,
    candidates: tuple[int, ...] = (10, 50, 200, 500),
    rounds: int = 500,
) -> None:
    """Answer `rounds` requests for each number of `candidates`; print the table and write it to `json`.

    Args:
        json: file of the report.
        model: folder of the model.
        online: SQLite file of the online store.
        candidates: numbers of items of a request.
        rounds: requests of each number.
    """
    from benchmarks.serving.flag_overhead import run

    run(json, model=model, online=online, candidates=candidates, rounds=rounds)


if __name__ == "__main__":
    stage.run(unknown_flags)
