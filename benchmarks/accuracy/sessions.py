"""Benchmark: what session features are worth, and how much of it is left when events arrive late.

    python -m benchmarks.accuracy.sessions --log simulation --seeds 3 --json sessions.json

The rows of a log are made with other values of `aggregate.session`, and HiNet+ is trained on each of them with the
recipe of params.yaml. The log `simulation` has visits (dataset.simulation.session_effect 1), and two known limits:
the AUC of the true probabilities, and of those of somebody who knows everything but the visits. Each log has a JSON of
its own with the runs of each setting, which is continued.
"""

import json as jsonlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from common import stage
from common.errors import ParameterError
from common.files import write_text
from common.params import load
from common.paths import ROOT
from common.yaml_file import dump_yaml

NONE = "no session features"
MODEL = "hinet+"
SIMULATION = {"impressions": 200_000, "users": 2000, "items": 600, "session_effect": 1}
COMPARED = {"simulation": ["item_id", "cuisine"], "kuairand-pure": ["video_id", "author_id", "music_id", "video_type"]}
ONCE = ("ingest", "validate")  # the stages that read no setting of a session
EACH = ("aggregate", "join", "encode")


def sessions(
    *,
    log: str = "simulation",
    path: Path | None = None,
    seeds: int = 3,
    settings: str = "all",
    processes: int | None = None,
    json: Path = Path("artifacts/sessions.json"),
) -> None:
    """Train HiNet+ on the rows of each setting; print the table and write it to `json`.

    Args:
        log: simulation, or kuairand-pure.
        path: folder that holds the official archive; the simulation needs none.
        seeds: runs of each setting.
        settings: names of settings with semicolons between them (some hold commas), or all.
        processes: runs at the same time, of one thread each; default: one per core.
        json: file of the table; beside it is one for each setting, which is continued where it exists.
    """
    from benchmarks.accuracy.protocols import run_stage
    from benchmarks.accuracy.report import Report
    from benchmarks.accuracy.rows import read_rows
    from benchmarks.accuracy.runs import run_table

    wanted = _wanted(log, settings)
    row = read_rows(log, [MODEL], load(ROOT / "params.yaml").train)[0]
    table: dict[str, Any] = {"log": log, "settings": {}}
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary) / "raw"
        _write_params(raw, log, path, {"events": 0})
        for name in ONCE:
            run_stage(name, raw)
        if log == "simulation":
            table["limits"] = limits(raw)
        for number, (name, changes) in enumerate(wanted.items()):
            folder = Path(temporary) / str(number)
            shutil.copytree(raw, folder)
            _write_params(folder, log, path, changes)
            for each in EACH:
                run_stage(each, folder)
            report = Report(json.with_name(f"{json.stem}-{number}{json.suffix}"), log, name, folder)
            written = run_table(report, [row], seeds, json.with_suffix(".members"), processes)
            table["settings"][name] = written["models"][MODEL]
            write_text(json, jsonlib.dumps(table, indent=1) + "\n")
            shutil.rmtree(folder)
    show(table)


def settings_of(log: str) -> dict[str, dict[str, Any]]:
    """The values of `aggregate.session` that are compared on a log, by name."""
    lists = {"events": 50}
    compared = lists | {"compared_columns": COMPARED[log]}
    late = {"60 s": 60, "1 h": 3600, "1 day": 86_400}
    return {
        NONE: {"events": 0},
        "lists, counts and rates": lists,
        "candidates compared, too": compared,
        **{f"the same, events {name} late": compared | {"lag_seconds": seconds} for name, seconds in late.items()},
    }


def _wanted(log: str, names: str) -> dict[str, dict[str, Any]]:
    if log not in COMPARED:
        raise ParameterError(f"--log {log}: expected one of {', '.join(COMPARED)}")
    known = settings_of(log)
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(";")]
    if unknown := [name for name in wanted if name not in known]:
        raise ParameterError(f"--settings {'; '.join(unknown)}: expected some of {'; '.join(known)}, or all")
    return {name: known[name] for name in dict.fromkeys([NONE, *wanted])}


def _write_params(folder: Path, log: str, path: Path | None, session: Mapping[str, Any]) -> None:
    from benchmarks.accuracy.protocols import params_of

    plain = params_of(log, path, "time")
    if log == "simulation":
        plain["dataset"]["simulation"] |= SIMULATION
    plain["aggregate"]["session"] |= session
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(dump_yaml(plain), encoding="utf-8")


def limits(folder: Path) -> dict[str, float]:
    """Mean AUC of clicks over the scenarios on the last two days: of the truth, and of the truth but for the visits."""
    import pandas as pd
    from scipy.special import logit

    from features import datasets
    from features.datasets.simulation import visits
    from models.evaluation.metrics import auc

    effects: list[NDArray[np.float64]] = []
    real = visits.visit_effects

    def recorded(*arguments: Any) -> NDArray[np.float64]:
        effects.append(real(*arguments))
        return effects[-1]

    with patch.object(visits, "visit_effects", recorded):
        rows = pd.concat(datasets.read(load(folder / "params.yaml").dataset).chunks(), ignore_index=True)
    true = logit(rows["p_click"].to_numpy())
    day = rows["timestamp"].dt.floor("D")
    last = (day > day.max() - pd.Timedelta(days=2)).to_numpy()
    cells = [last & (rows["scenario"] == name).to_numpy() for name in rows["scenario"].cat.categories]
    clicks = rows["click"].to_numpy()
    scores = {"the visits are known": true, "all but the visits is known": true - np.concatenate(effects)}
    return {
        name: float(np.mean([auc(clicks[cell], of_rows[cell]) for cell in cells])) for name, of_rows in scores.items()
    }


def show(table: Mapping[str, Any]) -> None:
    """Print the table of `summarize`, and the limits where they are known."""
    printed = Table("session features", "mean AUC", "gain", "AUC of clicks", "gain", title=f"{MODEL} on {table['log']}")
    for name, *figures in summarize(table["settings"]):
        printed.add_row(name, *figures)
    for name, limit in table.get("limits", {}).items():
        printed.add_row(f"best possible, {name}", "", "", f"{limit:.4f}", "")
    Console(width=110).print(printed)


def summarize(settings: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """By setting the mean AUC of all cells and of those of the first task, each with its paired gain over NONE."""
    from benchmarks.accuracy.report import paired

    rows = []
    for name, model in settings.items():
        figures: list[str] = []
        for cells in ("", "/T1"):
            values, base = (_by_seed(one["cells"], cells) for one in (model, settings[NONE]))
            figures += [f"{values.mean():.4f}", "" if name == NONE else paired(values - base)]
        rows.append((name, figures[0], figures[1], figures[2], figures[3]))
    return rows


def _by_seed(cells: Mapping[str, Any], suffix: str) -> NDArray[np.float64]:
    """The mean over the cells whose name ends with `suffix`, by seed."""
    values: NDArray[np.float64] = np.mean([c["values"] for name, c in cells.items() if name.endswith(suffix)], axis=0)
    return values


if __name__ == "__main__":
    stage.run(sessions)
