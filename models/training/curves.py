"""The learning curves of a run and its summary, as the model folder holds them."""

from typing import Any

import numpy as np
from torch import nn

from features.schema import Schema
from models.networks.calibration import Calibration
from models.training.calibrate import summary_of_calibration
from models.training.loop import FitResult
from models.training.train_state import EpochResult


def curves_of(result: FitResult, schema: Schema) -> list[dict[str, Any]]:
    """Per epoch: losses, mean AUC, and `cells` {"scenario/task": AUC, null where a class is missing}."""
    return [
        {
            "epoch": epoch.number,
            "train_loss": epoch.train_loss,
            "valid_loss": epoch.valid_loss,
            "valid_mean_auc": epoch.valid_mean,
            "cells": _cells(epoch, schema),
        }
        for epoch in result.epochs
    ]


def summary_of(
    network: nn.Module, result: FitResult, seed: int, calibration: Calibration | None = None
) -> dict[str, Any]:
    """Seed, number of parameters, number of epochs, the best epoch with its validation mean, and the calibration."""
    calibrated = {} if calibration is None else {"calibration": summary_of_calibration(calibration)}
    return {
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": len(result.epochs),
        "best_epoch": result.best.number,
        "valid_mean_auc": result.best.valid_mean,
        **calibrated,
    }


def _cells(epoch: EpochResult, schema: Schema) -> dict[str, float | None]:
    names = [f"{scenario}/{task}" for scenario in schema.scenarios for task in schema.task_names]
    values = [None if np.isnan(value) else float(value) for value in epoch.valid_metrics.flat]
    return dict(zip(names, values, strict=True))
