"""Challengers of the promotion policy: metrics that are accepted, and those of planted logits."""

import numpy as np
import scipy.special

from common.serve_params import Release
from features.schema import Schema
from models.evaluation.accuracy import Interval
from models.evaluation.delong import estimate_cells, mean_estimate
from release.policy import Cell, ChallengerMetrics
from tests.support import world

SETTINGS = Release(
    confidence=0.95, minimum_gain=0.0, guard=0.01, calibration=1.25, sample=200, keep=5, branch="release"
)
SCHEMA: Schema = world.schema()
TASKS, NAMES = SCHEMA.tasks, SCHEMA.scenarios


def interval(low: float, high: float) -> Interval:
    """An interval around its middle."""
    return Interval(value=(low + high) / 2, low=low, high=high)


def metrics(**changes: object) -> ChallengerMetrics:
    """The metrics of a challenger that is accepted, with changes."""
    cell = Cell(name="feed/click", challenger=0.8, champion=0.78, gain=interval(0.01, 0.03))
    accepted = {
        "rows": 1000,
        "mean": 0.8,
        "champion": "old",
        "chance": 0.5,
        "gain": interval(0.01, 0.03),
        "cells": (cell,),
        "calibration": {"feed/click": interval(0.9, 1.1)},
    }
    return ChallengerMetrics(**accepted | changes)


def rows(count: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels [N, 2], logits [N, 2] that explain them, one of three scenarios [N]."""
    random = np.random.default_rng(1)
    logits = random.normal(-0.5, 1.2, (count, 2))
    labels = (random.random((count, 2)) < scipy.special.expit(logits)).astype(np.float32)
    return labels, logits, random.integers(0, 3, count)


def against(
    champion: np.ndarray, challenger: np.ndarray, labels: np.ndarray, scenario: np.ndarray
) -> ChallengerMetrics:
    """The metrics of two models, by their logits [N, 2]."""
    ours, theirs = (
        estimate_cells(labels, scores, scenario, TASKS, scenarios=NAMES) for scores in (challenger, champion)
    )
    gain = (mean_estimate(list(ours.values())) - mean_estimate(list(theirs.values()))).interval(0.95)
    cells = tuple(
        Cell(
            name=name,
            challenger=ours[name].value,
            champion=theirs[name].value,
            gain=(ours[name] - theirs[name]).interval(0.95),
        )
        for name in ours
    )
    return metrics(gain=gain, cells=cells, calibration={})
