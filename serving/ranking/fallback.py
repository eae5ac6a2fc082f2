"""What is said of items when no model can say it: the label rates of the training rows, by scenario and item."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.model_folder import REFERENCE, Model
from serving.ranking.item_catalogue import Catalogue, Places

WIDEST = "all"  # window of the items' rates: see features/aggregate.py


class Priors:
    """P(label) = rate of the scenario x (smoothed rate of the item / mean of the items); the classes of a task alike.

    An item without a rate, and every item of a log without such statistics, is taken for an average one.
    """

    def __init__(self, model: Model, folder: Path, catalogue: Catalogue) -> None:
        labels = json.loads((folder / REFERENCE).read_text())["labels"]
        self.scenario = np.stack([_rates(labels, task.name, model) for task in model.schema.tasks], axis=1)  # [M, T]
        self.item = np.stack([_lift(catalogue, task.name) for task in model.schema.tasks], axis=1)  # [items, T]
        self.task = np.repeat(np.arange(len(model.schema.tasks)), [task.outputs for task in model.schema.tasks])
        self.classes = np.array([task.outputs for task in model.schema.tasks])

    def score(self, scenario: int, places: Places) -> NDArray[np.float64]:
        """Probabilities [N, O] of the items at `places` in a scenario (its number)."""
        rates = np.clip(self.scenario[scenario] * self.item[places], 0, 1)  # [N, T]
        found: NDArray[np.float64] = np.where(self.classes > 1, 1 / self.classes, rates)[:, self.task]
        return found


def _rates(labels: dict[str, list], task: str, model: Model) -> NDArray[np.float64]:
    """The rate of a task in each scenario [M]; 0 for a task of classes, which has none."""
    if task not in labels:
        return np.zeros(len(model.schema.scenarios))
    observed, positive = np.moveaxis(np.array(labels[task], np.float64).sum(axis=0), 1, 0)
    found: NDArray[np.float64] = positive / np.maximum(observed, 1)
    return found


def _lift(catalogue: Catalogue, task: str) -> NDArray[np.float64]:
    """How many times as often as the mean of the items each one gets the label [items]."""
    name = f"item_{task}_rate_{WIDEST}"
    if name not in catalogue.rows.column_names:
        return np.ones(len(catalogue.unknown))
    rates = catalogue.rows[name].to_numpy().astype(np.float64)
    mean = np.nanmean(rates) if np.isfinite(rates).any() else 0.0
    return np.where(np.isfinite(rates), rates / mean, 1.0) if mean > 0 else np.ones(len(rates))
