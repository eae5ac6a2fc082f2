"""Benchmark: is a warm start each morning as good as a training from nothing, and at what share of the time?

    python -m benchmarks.mornings --log kuairand-pure --path DIR --json mornings.json

Each morning a model is trained on the rows of the days before, its epoch is chosen by the rows of yesterday, and it
scores the rows of the day. It is trained from nothing, or it begins in yesterday's model, or it is the model of the
first morning. The logs and the starts are in benchmarks/mornings/mornings.yaml. The JSON is written after every run;
with the same file the command continues with the runs that are missing. The models are kept in a folder beside it.
"""

from pathlib import Path

from common import stage


def mornings(
    *,
    log: str = "kuairand-pure",
    path: Path | None = None,
    run: Path | None = None,
    first: int | None = None,
    last: int | None = None,
    every: int = 1,
    starts: str = "all",
    model: str = "hinet",
    seeds: int = 1,
    json: Path = Path("artifacts/mornings.json"),
) -> None:
    """Have a model each morning of a log in several ways; print the tables and write the results to `json`.

    Args:
        log: A log of mornings.yaml: kuairand-pure or simulation; with `run`: the name of its log.
        path: Folder that holds the official archive; the simulation needs none.
        run: Folder with params.yaml and the joined rows of a run, such as this project; None: those of `log` are made.
        first: Number of the first day that a model scores, counted from 1; None: that of the log, 6 for a run.
        last: Number of the last day; None: that of the log.
        every: Days from one morning to the next.
        starts: Names of starts in mornings.yaml with commas between them, or all.
        model: Name of the network.
        seeds: Trainings of each start on each morning, with the seeds 1 to `seeds`.
        json: File of the results, which is continued where it exists.
    """
    import tempfile

    from benchmarks.mornings.backtest import Backtest, run_all
    from benchmarks.mornings.plan import read_log, read_starts
    from benchmarks.mornings.results import show
    from benchmarks.mornings.rows import prepare_log

    chosen = read_starts(starts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if run is None:
            declared = read_log(log)
            prepare_log(declared.params, path, folder / "log")
            first = first or declared.first
        backtest = Backtest(
            name=log,
            run=run or folder / "log",
            first=first or 6,
            last=last,
            every=every,
            network=model,
            seeds=seeds,
            json=json,
        )
        show(run_all(backtest, chosen, folder / "rows"))


if __name__ == "__main__":
    stage.run(mornings)
