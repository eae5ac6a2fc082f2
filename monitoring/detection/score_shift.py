"""Scores and how right they are, of the current window against the validation rows; and how well they rank."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from features.schema import Schema, TaskKind, places
from models.evaluation.metrics import auc_interval
from monitoring.detection import noise_band, statistics
from monitoring.detection.noise_band import NONE

Entry = dict[str, Any]
LEVEL = 0.998  # of the band of predicted over observed


def score_entries(reference: dict[str, Any], current: dict[str, Any]) -> Iterator[Entry]:
    """One per "scenario/task" of both: the distance of the scores, and predicted over observed."""
    for cell, now in current.items():
        then = reference.get(cell)
        if then is not None:
            scenario, task = cell.rsplit("/", 1)
            yield {"scenario": scenario, "task": task, **_distance(now, then), **_calibration(now, then)}


def _distance(now: Entry, then: Entry) -> Entry:
    counts = [np.array(held["counts"], np.int64) for held in (now, then)]
    value = statistics.psi(*counts)
    return {
        "rows": int(counts[0].sum()),
        "reference_rows": int(counts[1].sum()),
        "psi": value,
        "noise": noise_band.band(NONE, *counts),
        "p_value": noise_band.p_value(value, NONE, *counts),
        "histories": {},  # of scores only those of the validation rows are kept, all together
        "bins": _intervals(now["edges"]),
        "reference": statistics.shares(counts[1]).tolist(),
        "current": statistics.shares(counts[0]).tolist(),
    }


def _calibration(now: Entry, then: Entry) -> Entry:
    """Predicted over observed, the ratio of the validation rows beside it, and how surprising their difference is.

    Given the positives of both windows, those of the current one are binomial with its share of what was predicted.
    """
    rows, hits, expected = now["rows"], now["positives"], now["expected"]
    told = {
        "labelled_rows": rows,
        "mean_predicted": expected / rows if rows else None,
        "mean_observed": hits / rows if rows else None,
        "reliability": _reliability(now),
    }
    if not rows or not hits or not then["positives"]:
        nothing = dict.fromkeys(("ratio", "reference_ratio", "low", "high", "calibration_p_value"))
        return told | nothing
    usual = then["expected"] / then["positives"]
    share = expected / (expected + then["expected"])
    p_value = stats.binomtest(hits, hits + then["positives"], share).pvalue
    mean = expected / usual
    reach = stats.norm.isf((1 - LEVEL) / 2) * np.sqrt(mean * (1 + mean / then["positives"]))
    band = {"low": expected / (mean + reach), "high": expected / (mean - reach) if mean > reach else None}
    return told | {"ratio": expected / hits, "reference_ratio": usual, **band, "calibration_p_value": float(p_value)}


def _reliability(now: Entry) -> list[Entry]:
    return [
        {"predicted": total / rows, "observed": positives / rows, "rows": int(rows)}
        for rows, total, positives in zip(*now["observed"], strict=True)
        if rows
    ]


def performance(
    probabilities: NDArray[np.float64],
    labels: NDArray[Any],
    scenario: NDArray[Any],
    schema: Schema,
    reference: dict[str, Any],
) -> Iterator[Entry]:
    """AUC of every binary cell on the rows with a label, and its fall; probabilities [N, O], labels [N, T]."""
    for code, name in enumerate(schema.scenarios):
        for column, (task, place) in enumerate(zip(schema.tasks, places(schema.tasks), strict=True)):
            if task.kind is not TaskKind.BINARY:
                continue
            kept = (scenario == code) & ~np.isnan(labels[:, column])
            found = auc_interval(labels[kept, column], probabilities[kept, place][:, 0], confidence=0.95)
            entry = {
                "scenario": name,
                "task": task.name,
                "rows": int(kept.sum()),
                "positives": int(labels[kept, column].sum()),
                "auc": found.value if found else None,
                "low": found.low if found else None,
                "high": found.high if found else None,
            }
            yield entry | _fall(entry, reference.get(f"{name}/{task.name}", {}))


def _fall(now: Entry, then: Entry) -> Entry:
    """By how much the AUC is below that of the validation rows, what chance may do, and how surprising it is.

    Both AUCs vary as if the ranking were what it was, so that few positives have a wide band and not a narrow one.
    """
    usual = then.get("auc")
    told = {"reference_auc": usual, "reference_rows": then.get("rows", 0), "histories": {}}
    if usual is None or now["auc"] is None:
        return told | dict.fromkeys(("fall", "noise", "p_value"))
    own, before = (
        statistics.auc_deviation(usual, held["positives"], held["rows"] - held["positives"]) for held in (now, then)
    )
    spread = math.hypot(own, before)
    fall = usual - now["auc"]
    return told | {
        "fall": fall,
        "noise": float(stats.norm.isf(1 - noise_band.LEVEL)) * spread,
        "p_value": float(stats.norm.sf(fall / spread)) if spread else 1.0,
    }


def _intervals(edges: list[float]) -> list[str]:
    bounds = ["0", *(f"{edge:.3g}" for edge in edges), "1"]
    return [f"{low} .. {high}" for low, high in itertools.pairwise(bounds)]
