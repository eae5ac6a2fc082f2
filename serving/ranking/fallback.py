"""Fallback scores: label rates of the training rows by scenario and item, for when the model cannot score."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.model_folder import REFERENCE, Model
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex

WIDEST_WINDOW = "all"  # of the items' rates: see features/engine/feature_views.py


class FallbackScores:
    """P(label) = rate of the scenario x (smoothed rate of the item / mean of the items), clipped to [0, 1].

    An item without a rate, and every item of a log without such statistics, counts as average. The classes of a
    multi-class task are equally probable. Letters: M scenarios, T tasks, O outputs, N items of a request.
    """

    def __init__(self, model: Model, folder: Path, catalogue: ItemCatalogue) -> None:
        labels, tasks = json.loads((folder / REFERENCE).read_text())["labels"], model.schema.tasks
        self.scenario_rates = np.stack([_scenario_rates(labels, task.name, model) for task in tasks], axis=1)  # [M, T]
        self.item_lifts = np.stack([_item_lifts(catalogue, task.name) for task in tasks], axis=1)  # [items, T]
        self.task_of_output = np.repeat(np.arange(len(tasks)), [task.outputs for task in tasks])  # [O]
        self.classes = np.array([task.outputs for task in tasks])  # [T]

    def score(self, scenario: int, item_index: ItemIndex) -> NDArray[np.float64]:
        """Probabilities [N, O] of the items with these indices [N] in the scenario with this number."""
        rates = np.clip(self.scenario_rates[scenario] * self.item_lifts[item_index], 0, 1)  # [N, T]
        scores: NDArray[np.float64] = np.where(self.classes > 1, 1 / self.classes, rates)[:, self.task_of_output]
        return scores


def _scenario_rates(labels: dict[str, list[Any]], task: str, model: Model) -> NDArray[np.float64]:
    """The rate of a task in each scenario [M], in one without rows that of all; 0 for a multi-class task."""
    if task not in labels:
        return np.zeros(len(model.schema.scenarios))
    observed, positive = np.moveaxis(np.array(labels[task], np.float64).sum(axis=0), 1, 0)
    observed, positive = (np.where(observed > 0, part, part.sum()) for part in (observed, positive))
    rates: NDArray[np.float64] = positive / np.maximum(observed, 1)
    return rates


def _item_lifts(catalogue: ItemCatalogue, task: str) -> NDArray[np.float64]:
    """The rate of a task of each item, divided by the mean over the items [items]."""
    name = f"item_{task}_rate_{WIDEST_WINDOW}"
    if name not in catalogue.rows.column_names:
        return np.ones(len(catalogue.unknown))
    rates = catalogue.rows[name].to_numpy().astype(np.float64)
    mean = np.nanmean(rates) if np.isfinite(rates).any() else 0.0
    return np.where(np.isfinite(rates), rates / mean, 1.0) if mean > 0 else np.ones(len(rates))
