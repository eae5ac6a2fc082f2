"""Command: search for better parameters of a network, by trials on the validation rows, with Optuna."""

from importlib.util import find_spec
from pathlib import Path

from common import params, stage
from common.errors import ParameterError
from common.paths import ENCODER, PARAMS, SCHEMA, SEARCH, SPACE, TENSORS, TRAINING


def search(
    *,
    trials: int = 50,
    budget_minutes: float | None = None,
    model: str = "hinet_plus",
    finalists: int = 3,
    seeds: int = 3,
    write: bool = False,
    experiments: bool = False,
    space: Path = SPACE,
    storage: str | None = None,
    heartbeat_seconds: int = 30,
    out: Path = SEARCH,
) -> None:
    """Search for parameters of params.yaml with which a network has a better validation mean.

    It reads the rows that `dvc repro encode` wrote. A search that was killed goes on where it was, and one with more
    trials adds them.

    Args:
        trials: the number of trials in all, those of earlier runs included.
        budget_minutes: no trial is started when the finalists need the rest of this time; None: no limit.
        model: hinet_plus, or another name in models.model_folder.NETWORKS.
        finalists: so many of the best trials are trained again, with params.yaml as it is.
        seeds: of each finalist.
        write: write the chosen values to params.yaml; without it, the command that runs them is printed.
        experiments: queue each finalist as an experiment of DVC.
        space: the parameters and the values that are tried.
        storage: SQLAlchemy's address of a PostgreSQL database in which several machines share the trials; None: a file
            in `out`.
        heartbeat_seconds: with a database, a trial whose process gives no sign for three times as long is run again.
        out: a folder for each study, with index.html.
    """
    counts = {"trials": trials, "finalists": finalists, "seeds": seeds, "heartbeat-seconds": heartbeat_seconds}
    _check(counts | ({} if budget_minutes is None else {"budget-minutes": budget_minutes}))
    from common.yaml_file import read_yaml
    from models.tuning.apply import apply
    from models.tuning.fitting import Fitting
    from models.tuning.page import write_page
    from models.tuning.search import Extent, run_search
    from models.tuning.space import read_space
    from models.tuning.storage import open_storage

    seed, plain = params.load().train.seed, read_yaml(PARAMS)
    declared = read_space(space, plain, model)
    fitting = Fitting(model, plain, schema=SCHEMA, encoder=ENCODER, tensors=TENSORS, training=TRAINING)
    name, current = fitting.study_name(declared), declared.current(plain)
    seconds = None if budget_minutes is None else 60 * budget_minutes
    extent = Extent(trials=trials, seconds=seconds, finalists=finalists, seeds=seeds)
    print(f"study {name}: {len(current)} parameters, {fitting.measure} of the validation rows", flush=True)
    with open_storage(storage, out / name, heartbeat_seconds) as opened:
        result = run_search(opened, name, declared, fitting.fit, current=current, seed=seed, extent=extent)
        write_page(out / name / "index.html", result, current, fitting.measure)
    apply(result, current, write=write, experiments=experiments)
    print(f"page: {out / name / 'index.html'}", flush=True)


def _check(counts: dict[str, float]) -> None:
    """Raise ParameterError for an option that is no positive number, and where Optuna is not installed."""
    for name, count in counts.items():
        if not count > 0:
            raise ParameterError(f"--{name}: expected a number above 0, found {count}")
    if missing := [name for name in ("optuna", "plotly") if find_spec(name) is None]:
        raise ParameterError(
            f"models.search needs {' and '.join(missing)}, of the extra `search`: "
            "pip install --constraint constraints.txt --editable '.[search]'"
        )


if __name__ == "__main__":
    stage.run(search)
