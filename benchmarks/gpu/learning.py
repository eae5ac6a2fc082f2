"""What a training learns, on rows with something to learn: the mean AUC, to compare devices and variants."""

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.sizes import Size, Variant
from benchmarks.training.workload import FIELDS, IDS, RECIPE, TASKS, arguments, random_rows
from features.encoding.tensors import Tensors
from models.networks.hinet import HiNet
from models.training.device import make_deterministic
from models.training.loop import fit

LEARNING = {"epochs": 3, "patience": 3, "learning_rate": 0.005, "average": 0.98}  # some 150 steps have to do

PLANTED_IDS = 200  # of a field: few, so that they are seen often


def mean_auc(size: Size, variant: Variant, rows: int, device: torch.device) -> dict[str, Any]:
    """The best mean AUC of the cells in three epochs of `rows` rows, on a fifth as many validation rows."""
    scenarios = size.shape["scenarios"]
    train, valid = (planted_rows(count, scenarios, seed) for count, seed in ((rows, 1), (rows // 5, 2)))
    changes: dict[str, Any] = {**LEARNING, "batch_size": size.batch_size, **variant.recipe}
    make_deterministic(1)
    network = HiNet(*arguments(size.shape, IDS[0]))
    names = [[str(number) for number in range(count)] for count in (scenarios, TASKS)]
    with variant.products():
        result = fit(
            network,
            train,
            valid,
            dataclasses.replace(RECIPE, **changes),
            scenarios=names[0],
            tasks=names[1],
            device=device.type,
        )
    return {"auc": round(result.best.valid_mean, 5)}


def planted_rows(rows: int, scenarios: int, seed: int) -> Tensors:
    """Random rows whose labels depend on the ids: an effect of each id, whose sign in field 0 the scenario decides."""
    drawn = random_rows(rows, PLANTED_IDS, scenarios, seed)
    effects = np.random.default_rng(0).normal(size=(FIELDS, PLANTED_IDS, TASKS))  # the same for every set of rows
    values = effects[np.arange(FIELDS), drawn.categorical]  # [N, F, T]
    values[:, 0] *= np.where(drawn.scenario % 2, 2, -2)[:, None]
    chance = 1 / (1 + np.exp(-values.sum(axis=1) / FIELDS**0.5))  # [N, T]
    labels = np.random.default_rng([seed, 1]).random(chance.shape) < chance  # another stream than that of the ids
    return dataclasses.replace(drawn, labels=labels.astype(np.float32))
