"""A comparison of two windows without drift, with the changes of each kind of finding."""

from typing import Any

from common import params
from common.params import Drift

LIMITS: Drift = params.load().drift
SCENARIOS = ("feed", "search", "channel", "late")


def cell(**changes: Any) -> dict[str, Any]:
    """A column in a scenario without any drift."""
    return {
        "rows": 9000,
        "reference_rows": 90_000,
        "enough_rows": True,
        "grows": False,
        "untested": None,
        "psi": 0.001,
        "noise": 0.01,
        "p_value": 0.5,
        "missing": [0.01, 0.01],
        "unknown": None,
        "out_of_range": [0.0, 0.0],
        "out_of_range_noise": 0.01,
        "p_values": {"missing": 0.5, "out_of_range": 0.5},
        "scale": [1.0, 1.0],
        "swapped": None,
        "linf": 0.01,
        "linf_bin": "3 .. 4",
        "histories": {"psi": [0.001, 0.002], "missing": [0.01]},
    } | changes


def mix_row(scenario: str, **changes: Any) -> dict[str, Any]:
    """A scenario of the mix."""
    rows = {"reference_share": 0.25, "current_share": 0.25, "reference_rows": 90_000, "current_rows": 9000}
    return {"scenario": scenario, **rows, **changes}


def volume_row(scenario: str, **changes: Any) -> dict[str, Any]:
    """The number of rows of a scenario, as usual."""
    usual = {"rows": 9000, "expected": 9000.0, "change": 0.0, "enough_rows": True, "noise": 0.1, "p_value": 0.9}
    return {"scenario": scenario, **usual, "histories": {"volume": [0.01]}, **changes}


def comparison(columns: dict[str, dict[str, dict[str, Any]]], **sections: Any) -> dict[str, Any]:
    """A comparison in which only the named cells of the named columns differ."""
    return {
        "mix": {
            "psi": 0.0,
            "noise": 0.01,
            "p_value": 0.9,
            "linf_bin": "feed",
            "enough_rows": True,
            "scenarios": [mix_row(name) for name in SCENARIOS],
            "histories": {},
        },
        "volume": {"untested": None, "same_weekdays": True, "scenarios": [volume_row(name) for name in SCENARIOS]},
        "columns": [
            {
                "column": name,
                "importance": 0.01,
                "scenarios": {scenario: cell(**changed.get(scenario, {})) for scenario in SCENARIOS},
            }
            for name, changed in columns.items()
        ],
        "labels": [],
        "scores": [],
        "performance": [],
    } | sections


SHIFT = {"psi": 0.4, "p_value": 1e-12}
KINDS = {
    "missing": {"missing": [0.01, 0.6], "p_values": {"missing": 1e-20}, **SHIFT},
    "unit": {**SHIFT, "scale": [1000.0, 990.0]},
    "swapped": {"psi": 0.15, "p_value": 1e-20, "scale": None, "swapped": ["ios", "android"]},
    "range": {**SHIFT, "out_of_range": [0.0, 0.5], "p_values": {"missing": 0.5, "out_of_range": 1e-20}},
    "new_values": {"unknown": [0.0, 0.3], "p_values": {"missing": 0.5, "unknown": 1e-20}},
    "outdated": {**SHIFT, "fresh": [0.25, 0.0], "fresh_noise": 0.4, "p_values": {"missing": 0.5, "fresh": 1e-20}},
    "covariate": SHIFT,
}
