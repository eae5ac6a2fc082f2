"""Scores, calibration and AUC of the current window against those on the validation rows."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from features.schema import Schema, TaskKind, output_slices
from models.evaluation.concordance import concordance
from models.evaluation.metrics import auc_interval
from monitoring.detection import noise_band, statistics
from monitoring.detection.noise_band import NO_NOISE

Entry = dict[str, Any]
LEVEL = 0.998  # of the band of the calibration ratio


def compare_scores(reference: dict[str, Any], current: dict[str, Any], schema: Schema) -> Iterator[Entry]:
    """An entry per "scenario/task" of both: the distance of the scores, and the calibration ratio."""
    for cell, now in current.items():
        then = reference.get(cell)
        if then is not None:
            scenario, task = schema.cells[cell]
            is_number = task.kind is TaskKind.REGRESSION
            calibration = _calibration_of_sums(now, then) if is_number else _calibration(now, then)
            distance = _distance(now, then, ends=("lowest", "highest") if is_number else ("0", "1"))
            yield {"scenario": scenario, "task": task.name, **distance, **calibration}


def _distance(now: Entry, then: Entry, ends: tuple[str, str]) -> Entry:
    counts = [np.array(held["counts"], np.int64) for held in (now, then)]
    value = statistics.psi(*counts)
    return {
        "rows": int(counts[0].sum()),
        "reference_rows": int(counts[1].sum()),
        "psi": value,
        "noise": noise_band.band(NO_NOISE, *counts),
        "p_value": noise_band.p_value(value, NO_NOISE, *counts),
        "histories": {},  # the reference has the scores of all validation rows together, not by day
        "bins": _intervals(now["edges"], ends),
        "reference": statistics.shares(counts[1]).tolist(),
        "current": statistics.shares(counts[0]).tolist(),
    }


def _calibration(now: Entry, then: Entry) -> Entry:
    """Predicted over observed, the same ratio of the validation rows, and the p-value of their difference.

    Given the positives of both windows, those of the current one are binomial with its share of the predicted ones.
    """
    rows, positives, expected = now["rows"], now["positives"], now["expected"]
    entry = {
        "labelled_rows": rows,
        "mean_predicted": expected / rows if rows else None,
        "mean_observed": positives / rows if rows else None,
        "reliability": _reliability(now),
    }
    if not all((rows, positives, expected, then["positives"], then["expected"])):
        return entry | dict.fromkeys(("ratio", "reference_ratio", "low", "high", "calibration_p_value"))
    usual = then["expected"] / then["positives"]
    share = expected / (expected + then["expected"])
    p_value = stats.binomtest(positives, positives + then["positives"], share).pvalue
    mean = expected / usual
    reach = stats.norm.isf((1 - LEVEL) / 2) * np.sqrt(mean * (1 + mean / then["positives"]))
    band = {"low": expected / (mean + reach), "high": expected / (mean - reach) if mean > reach else None}
    return entry | {
        "ratio": expected / positives,
        "reference_ratio": usual,
        **band,
        "calibration_p_value": float(p_value),
    }


def _calibration_of_sums(now: Entry, then: Entry) -> Entry:
    """The same of a regression: expected over observed sums, whose errors follow from those of the rows."""
    rows, ratios = now["rows"], [_ratio(cell) for cell in (now, then)]
    entry = {
        "is_number": True,
        "labelled_rows": rows,
        "mean_predicted": now["expected"] / rows if rows else None,
        "mean_observed": now["positives"] / rows if rows else None,
        "reliability": _reliability(now),
    }
    if ratios[0] is None or ratios[1] is None:
        return entry | dict.fromkeys(("ratio", "reference_ratio", "low", "high", "calibration_p_value"))
    (ratio, error), (usual, reference_error) = ratios[0], ratios[1]
    deviation = math.hypot(error, reference_error)  # of the logarithm
    reach = math.exp(float(stats.norm.isf((1 - LEVEL) / 2)) * deviation)
    away = abs(math.log(ratio / usual))
    return entry | {
        "ratio": ratio,
        "reference_ratio": usual,
        "low": ratio / reach,
        "high": ratio * reach,
        "calibration_p_value": float(2 * stats.norm.sf(away / deviation)) if deviation else float(away == 0),
    }


def _ratio(cell: Entry) -> tuple[float, float] | None:
    """Expected over observed and the standard deviation of its logarithm; None unless both sums are positive."""
    if not cell["rows"] or not (cell["positives"] > 0 and cell["expected"] > 0):
        return None
    return cell["expected"] / cell["positives"], math.sqrt(cell["error"]) / cell["positives"]


def _reliability(now: Entry) -> list[Entry]:
    return [
        {"predicted": total / rows, "observed": positives / rows, "rows": int(rows)}
        for rows, total, positives in zip(*now["observed"], strict=True)
        if rows
    ]


def compare_auc(
    probabilities: NDArray[np.float64],
    labels: NDArray[Any],
    scenario: NDArray[Any],
    schema: Schema,
    reference: dict[str, Any],
) -> Iterator[Entry]:
    """AUC of every binary cell on labelled rows, XAUC of a regression, and its fall.

    probabilities [N, O], labels [N, T], scenario [N].
    """
    for code, name in enumerate(schema.scenarios):
        for column, (task, outputs) in enumerate(zip(schema.tasks, output_slices(schema.tasks), strict=True)):
            kept = (scenario == code) & ~np.isnan(labels[:, column])
            if task.kind is TaskKind.REGRESSION:
                now = _order_of_numbers(labels[kept, column], probabilities[kept, outputs][:, 0])
                then = reference.get(f"{name}/{task.name}", {})
                yield {"scenario": name, "task": task.name, **now, **_fall_of_numbers(now, then)}
            if task.kind is not TaskKind.BINARY:
                continue
            auc = auc_interval(labels[kept, column], probabilities[kept, outputs][:, 0], confidence=0.95)
            entry = {
                "scenario": name,
                "task": task.name,
                "rows": int(kept.sum()),
                "positives": int(labels[kept, column].sum()),
                "auc": auc.value if auc else None,
                "low": auc.low if auc else None,
                "high": auc.high if auc else None,
            }
            yield entry | _fall(entry, reference.get(f"{name}/{task.name}", {}))


def _order_of_numbers(labels: NDArray[Any], expected: NDArray[np.float64]) -> Entry:
    """XAUC with its 95 % interval, as `auc`."""
    pairs = concordance(labels, expected)
    deviation = None if pairs is None else float(np.sqrt((pairs.influence**2).sum()))
    reach = None if deviation is None else float(stats.norm.isf(0.025)) * deviation
    return {
        "is_number": True,
        "rows": len(labels),
        "positives": None,
        "auc": None if pairs is None else pairs.value,
        "low": None if pairs is None or reach is None else max(pairs.value - reach, 0.0),
        "high": None if pairs is None or reach is None else min(pairs.value + reach, 1.0),
        "auc_deviation": deviation,
    }


def _fall_of_numbers(now: Entry, then: Entry) -> Entry:
    """The fall of the XAUC below that of the validation rows, its noise band and its p-value."""
    entry = {"reference_auc": then.get("auc"), "reference_rows": then.get("rows", 0), "histories": {}}
    if then.get("auc") is None or now["auc"] is None:
        return entry | dict.fromkeys(("fall", "noise", "p_value"))
    return entry | _significance(then["auc"] - now["auc"], math.hypot(now["auc_deviation"], then["auc_deviation"]))


def _significance(fall: float, spread: float) -> Entry:
    """A fall with its noise band and its one-sided p-value."""
    return {
        "fall": fall,
        "noise": float(stats.norm.isf(1 - noise_band.LEVEL)) * spread,
        "p_value": float(stats.norm.sf(fall / spread)) if spread else 1.0,
    }


def _fall(now: Entry, then: Entry) -> Entry:
    """The fall of the AUC below that of the validation rows, its noise band and its p-value.

    The deviation of both AUCs is that of their common AUC, weighted by positives, so that few positives have a wide
    band. That of the reference's alone would be near 0 where its few positives happen to be ranked first.
    """
    usual = then.get("auc")
    entry = {"reference_auc": usual, "reference_rows": then.get("rows", 0), "histories": {}}
    if usual is None or now["auc"] is None:
        return entry | dict.fromkeys(("fall", "noise", "p_value"))
    common = float(np.average([usual, now["auc"]], weights=[then["positives"], now["positives"]]))
    own, before = (
        statistics.auc_deviation(common, held["positives"], held["rows"] - held["positives"]) for held in (now, then)
    )
    return entry | _significance(usual - now["auc"], math.hypot(own, before))


def _intervals(edges: list[float], ends: tuple[str, str]) -> list[str]:
    bounds = [ends[0], *(f"{edge:.3g}" for edge in edges), ends[1]]
    return [f"{low} .. {high}" for low, high in itertools.pairwise(bounds)]
