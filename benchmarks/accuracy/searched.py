"""Benchmark: the accuracy table with a recipe for each network, all found by searches of one budget.

    python -m benchmarks.accuracy.searched --dataset kuairand-pure --path DIR --models 'hinet+,m3oe+'

The rows are those of benchmarks/accuracy/accuracy.yaml, the space is benchmarks/accuracy/searched.yaml. The search is
that of `python -m models.search`: so many trials, the first with the row's own recipe, then the best ones and that
recipe again with other seeds. It reads the validation rows only. The row with the chosen recipe is trained with each
seed, and its test AUC is reported. The searches are kept in a folder beside the JSON; what is there is continued.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from common import params, stage
from common.errors import ParameterError

if TYPE_CHECKING:
    from benchmarks.accuracy.rows import Row
    from models.tuning.search import Extent, SearchResult

SPACE = Path(__file__).with_name("searched.yaml")


def searched(
    *,
    dataset: str = "simulation",
    path: Path | None = None,
    split: str | None = None,
    models: str = "hinet+,star+,pepnet+,m3oe+",
    trials: int = 12,
    finalists: int = 1,
    finalist_seeds: int = 2,
    seeds: int = 3,
    space: Path | None = None,
    processes: int | None = None,
    json: Path = Path("artifacts/searched.json"),
) -> None:
    """Search for the recipe of each of `models`, train it with seeds 1 to `seeds`; print the tables and write `json`.

    Args:
        dataset: kuairand-pure or simulation.
        path: folder with the official archive.
        split: time or random.
        models: names of rows with commas between them, without neighbours and with one member.
        trials: of the search of each row.
        finalists: the best trials that are trained again, beside the row's own recipe.
        finalist_seeds: of each finalist.
        seeds: runs of each row with the chosen recipe.
        space: parameters of `train` and the values that are tried; None: benchmarks/accuracy/searched.yaml.
        processes: runs at the same time, of one thread each; a search is one process. Default: one per core.
        json: file of the table, which is continued where it exists.
    """
    from benchmarks.accuracy.protocols import prepare
    from benchmarks.accuracy.report import Report, show
    from benchmarks.accuracy.rows import read_rows, split_names
    from benchmarks.accuracy.runs import run_table
    from models.tuning.search import Extent

    rows = read_rows(dataset, split_names(models), params.load().train)
    _check(rows)
    extent = Extent(trials=trials, finalists=finalists, seeds=finalist_seeds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report = Report(json, dataset, prepare(dataset, path, split, folder), folder)
        results = {
            row.name: search_row(row, folder, json.with_suffix(".studies"), space or SPACE, extent) for row in rows
        }
        chosen = [with_recipe(row, results[row.name].chosen.values) for row in rows]
        show(run_table(report, chosen, seeds, json.with_suffix(".members"), processes))
    show_searches(results)


def search_row(row: "Row", folder: Path, studies: Path, space: Path, extent: "Extent") -> "SearchResult":
    """Search for the recipe of a row on the encoded rows in `folder`; the trials are kept in `studies`."""
    from common.paths import ENCODER, SCHEMA, TENSORS, TRAINING
    from models.tuning.fitting import Fitting
    from models.tuning.search import run_search
    from models.tuning.space import read_space
    from models.tuning.storage import open_storage

    plain = plain_params(row)
    declared = read_space(space, plain, row.network)
    paths = {"schema": SCHEMA, "encoder": ENCODER, "tensors": TENSORS, "training": TRAINING}
    fitting = Fitting(row.network, plain, **{name: folder / path for name, path in paths.items()})
    name, current = fitting.study_name(declared), declared.current(plain)
    with open_storage(None, studies / name, heartbeat=1) as storage:
        return run_search(storage, name, declared, fitting.fit, current=current, seed=row.train.seed, extent=extent)


def plain_params(row: "Row") -> dict[str, Any]:
    """The part of params.yaml that a search reads: `train` of the row."""
    return {"train": row.train.model_dump(mode="json")}


def with_recipe(row: "Row", values: Mapping[str, Any]) -> "Row":
    """The row with other values of parameters, by their dotted names in params.yaml."""
    from models.tuning.parameters import settings_of

    return replace(row, train=settings_of(plain_params(row), values))


def _check(rows: list["Row"]) -> None:
    """Raise ParameterError for a row that a search cannot train: it knows networks that are trained alone."""
    if wrong := [row.name for row in rows if row.neighbours or row.auxiliary or row.members > 1]:
        raise ParameterError(
            f"--models {', '.join(wrong)}: rows with neighbours, auxiliary tasks or several members are not searched; "
            "take others, or another --dataset"
        )


def show_searches(results: Mapping[str, "SearchResult"]) -> None:
    """Print the validation mean of each row's own recipe and of the chosen one, and what was chosen."""
    from models.tuning.finalists import changes

    table = Table("model", "its own recipe, valid", "chosen, valid", "values", title="searches")
    for name, result in results.items():
        own, chosen = result.finalists[0], result.chosen
        values = ", ".join(
            f"{key.removeprefix('train.')} {value}" for key, value in changes(chosen, own.values).items()
        )
        table.add_row(name, f"{own.mean:.4f}", f"{chosen.mean:.4f}", values or "its own")
    Console(width=140).print(table)


if __name__ == "__main__":
    stage.run(searched)
