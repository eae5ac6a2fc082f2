"""Benchmark: the test AUC of every network over several seeds on the same rows, cell by cell.

    python -m benchmarks.accuracy --dataset movielens-1m --path DIR --models all --seeds 5 --json accuracy.json

The rows of the table are in benchmarks/accuracy/accuracy.yaml, the protocols in benchmarks/accuracy/protocols.py. Every
run learns from the training rows, its epoch is chosen on the validation rows, and its test AUC is reported. The JSON is
written after every run; with the same file the command continues with the runs that are missing. The predictions of
each member of an ensemble are kept in a folder beside the file, so that it continues with the members that are missing.
"""

import tempfile
from pathlib import Path

from common import params, stage


def accuracy(
    *,
    dataset: str = "simulation",
    path: Path | None = None,
    split: str | None = None,
    models: str = "all",
    seeds: int = 5,
    processes: int | None = None,
    json: Path = Path("artifacts/accuracy.json"),
) -> None:
    """Train each of `models` with seeds 1 to `seeds`; print the table and write it to `json`.

    Args:
        dataset: movielens-1m, kuairand-pure or simulation.
        path: folder with the official archive.
        split: time or random, where the protocol leaves it open.
        models: names of rows with commas between them, or all.
        seeds: runs of each row.
        processes: runs at the same time, of one thread each; default: one per core.
        json: file of the table, which is continued where it exists.
    """
    from benchmarks.accuracy.protocols import prepare
    from benchmarks.accuracy.report import Report, show
    from benchmarks.accuracy.rows import read_rows, split_names
    from benchmarks.accuracy.runs import run_table

    rows = read_rows(dataset, split_names(models), params.load().train)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report = Report(json, dataset, prepare(dataset, path, split, folder), folder)
        show(run_table(report, rows, seeds, json.with_suffix(".members"), processes))


if __name__ == "__main__":
    stage.run(accuracy)
