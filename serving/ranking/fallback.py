"""Fallback scores: label rates of the training rows by scenario and item, for when the model cannot score."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engine.feature_views import statistic_name
from models.model_folder import REFERENCE, Model
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex

WIDEST_WINDOW = "all"  # of the items' rates: see features/engine/feature_views.py


class FallbackScores:
    """P(label) = rate of the scenario x (smoothed rate of the item / mean of the items), clipped to [0, 1].

    Of a regression target it is the same of means, not clipped. An item without a rate, and every item of a log without
    such statistics, counts as average. The classes of a multi-class task are equally probable. Letters: M scenarios, T
    tasks, O outputs, N items of a request.
    """

    def __init__(self, model: Model, folder: Path, catalogue: ItemCatalogue) -> None:
        reference, schema = json.loads((folder / REFERENCE).read_text()), model.schema
        tasks = schema.tasks
        self.scenario_rates = np.stack(
            [_scenario_rates(reference, task.name, model) for task in tasks], axis=1
        )  # [M, T]
        names = [statistic_name(schema, "item", task.name, WIDEST_WINDOW) for task in tasks]
        self.item_lifts = np.stack([_item_lifts(catalogue, name) for name in names], axis=1)  # [items, T]
        self.most = np.where([task.name in schema.regressed for task in tasks], np.inf, 1.0)  # [T]
        self.task_of_output = np.repeat(np.arange(len(tasks)), [task.outputs for task in tasks])  # [O]
        self.classes = np.array([task.outputs for task in tasks])  # [T]

    def score(self, scenario: int, item_index: ItemIndex) -> NDArray[np.float64]:
        """Probabilities [N, O] of the items with these indices [N] in the scenario with this number."""
        means = self.scenario_rates[scenario] * self.item_lifts[item_index]  # [N, T]
        rates = np.clip(means, np.where(self.most > 1, -np.inf, 0), self.most)
        scores: NDArray[np.float64] = np.where(self.classes > 1, 1 / self.classes, rates)[:, self.task_of_output]
        return scores


def _scenario_rates(reference: dict[str, Any], task: str, model: Model) -> NDArray[np.float64]:
    """The rate or mean of a task in each scenario [M], in one without rows that of all; 0 for a multi-class task."""
    if task in model.schema.regressed:
        observed, positive = _sums(reference["targets"][task])
    elif task in reference["labels"]:
        observed, positive = np.moveaxis(np.array(reference["labels"][task], np.float64).sum(axis=0), 1, 0)
    else:
        return np.zeros(len(model.schema.scenarios))
    observed, positive = (np.where(observed > 0, part, part.sum()) for part in (observed, positive))
    rates: NDArray[np.float64] = positive / np.maximum(observed, 1)
    return rates


def _sums(counts: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Observed rows and sum of the labels of a regression target in each scenario [M].

    TargetCounts of features/encoding/target_counts.py as JSON: a service does not import DuckDB, which that needs.
    """
    rows, total = np.array(counts["daily"], np.float64).sum(axis=0)[:, :2].T
    return rows, total * (max(map(abs, counts["bins"]["edges"])) or 1.0) / 1e6


def _item_lifts(catalogue: ItemCatalogue, name: str) -> NDArray[np.float64]:
    """The statistic called `name` of each item, divided by the mean over the items [items]."""
    if name not in catalogue.rows.column_names:
        return np.ones(len(catalogue.unknown))
    rates = catalogue.rows[name].to_numpy().astype(np.float64)
    mean = np.nanmean(rates) if np.isfinite(rates).any() else 0.0
    return np.where(np.isfinite(rates), rates / mean, 1.0) if mean > 0 else np.ones(len(rates))
