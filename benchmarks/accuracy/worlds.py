"""Benchmark: which network is best on simulated platforms whose effects nobody has chosen.

    python -m benchmarks.accuracy.worlds --models 'hinet+,m3oe+,pepnet+' --worlds 10 --json worlds.json

The platform of params.yaml was designed while networks were compared on it. World w has the effects of
`dataset.simulation.world_seed` w (features/datasets/simulation/effects.py) and users, items and impressions of its own.
Each row of benchmarks/accuracy/accuracy.yaml is trained once a world, its epoch chosen on the valid rows. The JSON is
written after every run and continued.
"""

import json as jsonlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from common import params, stage
from common.files import write_text

LIMIT = "best possible"
Means = dict[str, list[float]]  # by model, the mean AUC of the cells in each world


def worlds(
    *,
    models: str = "hinet+,hinet,m3oe+,pepnet+,mmoe+",
    worlds: int = 10,
    impressions: int = 200_000,
    processes: int | None = None,
    json: Path = Path("artifacts/worlds.json"),
) -> None:
    """Train each of `models` in the worlds 1 to `worlds`; print the table and write it to `json`.

    Args:
        models: names of rows with commas between them.
        worlds: how many worlds.
        impressions: of a world; users and items are as many for each impression as params.yaml has.
        processes: runs at the same time, of one thread each; default: one per core.
        json: file of the table, which is continued where it exists.
    """
    from benchmarks.accuracy.protocols import prepare
    from benchmarks.accuracy.report import Report
    from benchmarks.accuracy.rows import read_rows, split_names
    from benchmarks.accuracy.runs import run_table

    settings = params.load()
    rows = read_rows("simulation", split_names(models), settings.train)
    means: Means = {name: [] for name in [*(row.name for row in rows), LIMIT]}
    for world in range(1, worlds + 1):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            text = prepare("simulation", None, None, folder, changes=_world(settings, world, impressions))
            table = json.with_name(f"{json.stem}-{world}{json.suffix}")
            report = Report(table, "simulation", f"{text}; world {world}, {impressions:,} impressions", folder)
            written = run_table(report, rows, 1, json.with_suffix(".members"), processes)
            for name in means:
                means[name].append(written["models"][name]["mean_auc"])
    write_text(json, jsonlib.dumps(means, indent=1) + "\n")
    show(means)


def _world(settings: params.Params, world: int, impressions: int) -> dict[str, int]:
    """The changes of dataset.simulation that make the world of this number."""
    simulation = settings.dataset.simulation
    share = impressions / simulation.impressions
    sizes = {"users": round(simulation.users * share), "items": round(simulation.items * share)}
    return {"world_seed": world, "seed": world, "impressions": impressions, **sizes}


def show(means: Means) -> None:
    """Print the table of `summarize`."""
    title = f"{len(means[LIMIT])} worlds: mean AUC of the cells on the test rows"
    table = Table("model", "mean AUC", "first in", "ahead of it", title=title)
    for name, mean, first, difference in summarize(means):
        table.add_row(name, f"{mean:.4f}", first, difference)
    Console(width=100).print(table)


def summarize(means: Means) -> list[tuple[str, float, str, str]]:
    """By model, the best one first: its mean over the worlds, in how many it is the best, and how far it is behind.

    Behind the first model of `means`, with the standard error of the paired differences.
    """
    models = {name: np.array(values) for name, values in means.items() if name != LIMIT}
    best = np.max(list(models.values()), axis=0)
    leading = next(iter(models.values()))
    rows: list[tuple[str, float, str, str]] = [(LIMIT, float(np.mean(means[LIMIT])), "", "")]
    for name, values in sorted(models.items(), key=lambda item: -float(item[1].mean())):
        rows.append((name, float(values.mean()), str(int((values == best).sum())), _difference(leading - values)))
    return rows


def _difference(differences: NDArray[Any]) -> str:
    from benchmarks.accuracy.report import paired

    return paired(differences) if differences.any() and len(differences) > 1 else ""


if __name__ == "__main__":
    stage.run(worlds)
