"""Entries of the drift document on labels, scores and performance of a scenario and task."""

from typing import Any

import numpy as np

Plain = dict[str, Any]
HISTORY = [0.02, 0.03, 0.01, 0.025]


def label(scenario: str, task: str) -> Plain:
    """The entry on the label of a scenario and task."""
    rows, off = 1_000 + 7 * len(scenario), (scenario, task) == ("flash_sale", "order")
    rate = 0.11 if task == "click" else 0.028
    observed = 0.0112 if off else rate * 1.04
    return {
        "scenario": scenario,
        "task": task,
        "rows": rows,
        "positives": round(rows * observed),
        "rate": observed,
        "reference_rate": rate,
        "low": rate * 0.87,
        "high": rate * 1.13,
        "same_weekday": scenario != "nearby",
        "verdict": "act" if off else "ok",
        "p_value": 2e-6 if off else 0.3,
        "enough_rows": True,
        "corrected_p_values": {"label_rate": 1e-4 if off else 1.0},
        "histories": {"label_rate": HISTORY},
    }


def scores(generator: np.random.Generator, scenario: str, task: str) -> Plain:
    """The entry on the scores of a scenario and task."""
    moved, labelled = (scenario, task) == ("search", "click"), scenario != "late_night"
    reference = np.sort(generator.dirichlet(np.full(10, 3)))[::-1]
    current = np.roll(reference, 1) if moved else reference * generator.uniform(0.9, 1.1, 10)
    mean, ratio = (0.12 if task == "click" else 0.03), 1.31 if moved else 0.97
    predicted = mean * np.linspace(0.2, 2.5, 8 * labelled)
    points = [
        {
            "predicted": float(p),
            "observed": float(p / ratio * generator.uniform(0.85, 1.15)),
            "rows": int(900 / (index + 1)),
        }
        for index, p in enumerate(predicted)
    ]
    return {
        "scenario": scenario,
        "task": task,
        "rows": 4_000,
        "psi": 0.16 if moved else 0.004,
        "noise": 0.006,
        "verdict": "watch" if moved else "ok",
        "bins": [f"{index / 100} .. {(index + 1) / 100}" for index in range(10)],
        "reference": reference.tolist(),
        "current": (current / current.sum()).tolist(),
        "mean_predicted": mean,
        "mean_observed": mean / ratio if labelled else None,
        "ratio": ratio if labelled else None,
        "low": ratio * 0.9 if labelled else None,
        "high": ratio * 1.1 if labelled else None,
        "calibration_verdict": ("watch" if moved else "ok") if labelled else None,
        "reliability": points,
    }


def performance(scenario: str, task: str) -> Plain:
    """The entry on the performance of a scenario and task."""
    known, usual = scenario != "late_night", 0.803
    auc = 0.74 if (scenario, task) == ("search", "click") else 0.801
    return {
        "scenario": scenario,
        "task": task,
        "rows": 4_000 if known else 20,
        "positives": 440 if known else 0,
        "auc": auc if known else None,
        "low": auc - 0.018 if known else None,
        "high": auc + 0.018 if known else None,
        "reference_auc": usual,
        "reference_rows": 4_000,
        "fall": usual - auc if known else None,
        "noise": 0.032 if known else None,
        "p_value": 1e-8 if auc < 0.8 else 0.42,
        "verdict": ("act" if auc < 0.8 else "ok") if known else None,
        "corrected_p_values": {"ranking": 1e-6 if auc < 0.8 else 1.0} if known else {},
        "histories": {},
    }
