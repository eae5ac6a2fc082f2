"""The accuracy table as JSON and on the terminal: mean and standard deviation over the seeds, cell by cell."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.rows import Row
from common.errors import ParameterError
from common.files import write_text
from common.paths import SCHEMA, TENSORS, TRUTH
from features.encoding.tensors import Tensors, open_tensors
from features.schema import Schema, read_schema
from models.evaluation.limit import true_probabilities
from models.evaluation.metrics import mean_of_cells

Cells = list[list[float | None]]  # [M][T], None where a cell has one class
LIMIT = "best possible"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: test AUC of the epoch that the validation rows chose, and its speed on one thread."""

    auc: Cells
    valid_auc: Cells
    best_epoch: int
    parameters: int
    samples_per_second: float  # training rows, the evaluation of each epoch included


class Report:
    """The table of one protocol in a file, which is written after every run and continued."""

    def __init__(self, path: Path, dataset: str, protocol: str, folder: Path) -> None:
        """Continue the file `path`, or begin it; raises ParameterError where it holds another protocol's table."""
        self.path, self.folder = path, folder
        schema = read_schema(folder / SCHEMA)
        self.names = [f"S{i}/T{j}" for i, _ in enumerate(schema.scenarios, 1) for j, _ in enumerate(schema.tasks, 1)]
        head = {"dataset": dataset, "protocol": protocol, "scenarios": schema.scenarios, "tasks": schema.task_names}
        self.plain: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {**head, "runs": []}
        )
        if (other := self.plain["protocol"]) != protocol:
            raise ParameterError(f"{path} holds {dataset!r} under the protocol {other!r}: give another --json")

    def has(self, row: Row, seed: int) -> bool:
        """Whether the run is in the table, of a row with the same facts."""
        return any(self._is(run, row, seed) for run in self.plain["runs"])

    def add(self, row: Row, seed: int, run: Run) -> None:
        """Add a run, and write the file."""
        self.plain["runs"].append({"model": row.name, "seed": seed, "row": row.facts(), **dataclasses.asdict(run)})
        self._write()

    def write(self, rows: Iterable[Row], seeds: int) -> dict[str, Any]:
        """Write and return the table: these rows over seeds 1 to `seeds`, and the rows that were in it before."""
        self.plain["models"] = self.plain.get("models", {}) | {row.name: self._summary(row, seeds) for row in rows}
        if (limit := self._limit()) is not None:
            self.plain["models"][LIMIT] = {"cells": self._cells([limit]), "mean_auc": _mean(_array([limit]))}
        self._write()
        return self.plain

    def _summary(self, row: Row, seeds: int) -> dict[str, Any]:
        runs = [run for seed in range(1, seeds + 1) for run in self.plain["runs"] if self._is(run, row, seed)]
        auc = _array([run["auc"] for run in runs])
        return {
            "cells": self._cells([run["auc"] for run in runs]),
            "mean_auc": _mean(auc),
            "mean_auc_std": _deviation(np.nanmean(auc, axis=(1, 2))),
            "valid_mean_auc": _mean(_array([run["valid_auc"] for run in runs])),
            "best_epochs": [run["best_epoch"] for run in runs],
            "parameters": runs[0]["parameters"],
            "samples_per_second": round(float(np.mean([run["samples_per_second"] for run in runs]))),
            "row": row.facts(),
        }

    def _cells(self, tables: Sequence[Cells]) -> dict[str, dict[str, Any]]:
        values = _array(tables).reshape(len(tables), -1).T  # [M * T, seeds]
        return {
            name: {"mean": round(float(of.mean()), 6), "std": _deviation(of), "values": of.tolist()}
            for name, of in zip(self.names, values, strict=True)
            if not np.isnan(of).any()
        }

    def _limit(self) -> Cells | None:
        """AUC of the true probabilities on the test rows, where they are known."""
        schema, test = read_schema(self.folder / SCHEMA), open_tensors(self.folder / TENSORS / "test")
        truth = self.folder / TRUTH
        probabilities = true_probabilities(truth, test, schema) if truth.exists() else None
        return None if probabilities is None else auc_of(schema, test, probabilities)

    def _write(self) -> None:
        write_text(self.path, as_text(self.plain))

    @staticmethod
    def _is(run: dict[str, Any], row: Row, seed: int) -> bool:
        return bool(run["model"] == row.name and run["seed"] == seed and run["row"] == row.facts())


def as_text(table: dict[str, Any]) -> str:
    """The table as JSON with a line for each run and each model, so that a difference in git is readable."""
    head = (f"{json.dumps(key)}: {json.dumps(table[key])}" for key in table if key not in ("runs", "models"))
    runs = ",\n".join(f" {json.dumps(run)}" for run in table["runs"])
    models = ",\n".join(f" {json.dumps(name)}: {json.dumps(model)}" for name, model in table.get("models", {}).items())
    parts = [*head, f'"runs": [\n{runs}\n]', *([f'"models": {{\n{models}\n}}'] if "models" in table else [])]
    return "{" + ",\n".join(parts) + "}\n"


def auc_of(schema: Schema, rows: Tensors, scores: NDArray[Any]) -> Cells:
    """AUC of each cell by scores or logits [N, O] of the rows."""
    _, cells = mean_of_cells(
        rows.labels, scores, rows.scenario, schema.tasks, scenarios=len(schema.scenarios), choice_set=rows.choice_set
    )
    return rounded(cells)


def rounded(auc: NDArray[np.float64]) -> Cells:
    """AUC [M, T] as plain lists with None for NaN, to six digits."""
    return [[None if np.isnan(cell) else round(float(cell), 6) for cell in cells] for cells in auc]


def _array(tables: Sequence[Cells]) -> NDArray[np.float64]:
    return np.array(tables, dtype=np.float64)  # None is NaN; [seeds, M, T]


def _mean(auc: NDArray[np.float64]) -> float:
    return round(float(np.nanmean(auc)), 6)


def paired(differences: NDArray[np.float64]) -> str:
    """The mean of paired differences with its standard error; of a single one there is none."""
    if len(differences) < 2:
        return f"{differences.mean():+.4f}"
    return f"{differences.mean():+.4f} ± {differences.std(ddof=1) / np.sqrt(len(differences)):.4f}"


def _deviation(values: NDArray[np.float64]) -> float:
    """The standard deviation of a sample (n - 1); 0 for one value."""
    return round(float(values.std(ddof=1)), 6) if len(values) > 1 else 0.0


def show(report: dict[str, Any]) -> None:
    """Print mean ± deviation per cell and model, the best model by its mean first."""
    models = dict(sorted(report["models"].items(), key=lambda item: -item[1]["mean_auc"]))
    names = [f"S{i}/T{j}" for i, _ in enumerate(report["scenarios"], 1) for j, _ in enumerate(report["tasks"], 1)]
    table = Table("model", *names, "mean", "parameters", "rows/s", title=f"{report['dataset']}: test AUC")
    for name, row in models.items():
        cells = (_text(row["cells"][cell]) if cell in row["cells"] else "-" for cell in names)
        counts = (f"{row[key]:,}" if key in row else "" for key in ("parameters", "samples_per_second"))
        table.add_row(name, *cells, f"{row['mean_auc']:.4f}", *counts)
    console = Console(width=60 + 16 * len(names))
    console.print(report["protocol"])
    console.print(", ".join(f"S{i} = {name}" for i, name in enumerate(report["scenarios"], 1)))
    console.print(", ".join(f"T{i} = {name}" for i, name in enumerate(report["tasks"], 1)))
    console.print(table)


def _text(spread: dict[str, Any]) -> str:
    return f"{spread['mean']:.4f} ± {spread['std']:.4f}"
