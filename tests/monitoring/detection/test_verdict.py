"""Verdicts: a finding matters, is no noise and no chance; it names what, where and what to do."""

from typing import Any

import pytest

from common import params
from common.params import Drift
from monitoring.detection.verdict import judge

LIMITS: Drift = params.load().drift
SCENARIOS = ("feed", "search", "channel", "late")


def cell(**changes: Any) -> dict[str, Any]:
    """A column in a scenario in which nothing has happened."""
    return {
        "rows": 9000,
        "reference_rows": 90_000,
        "enough_rows": True,
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


def report(columns: dict[str, dict[str, dict[str, Any]]], **sections: Any) -> dict[str, Any]:
    """A comparison in which only the named cells of the named columns differ."""
    return {
        "mix": {"psi": 0.0, "noise": 0.01, "p_value": 0.9, "linf_bin": "feed", "scenarios": [], "histories": {}},
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


def test_nothing_is_ok() -> None:
    """No finding, and nothing to do."""
    found = judge(report({"price": {}}), LIMITS)
    assert (found["verdict"], found["findings"]) == ("ok", [])


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        (SHIFT, "act"),
        ({**SHIFT, "psi": 0.15}, "watch"),
        ({**SHIFT, "psi": 0.05}, "ok"),  # too small to matter
        ({**SHIFT, "noise": 0.5}, "ok"),  # the reference does so by itself
        ({**SHIFT, "p_value": 0.01}, "ok"),  # perhaps chance
        ({**SHIFT, "enough_rows": False}, "ok"),  # too few rows to say
    ],
)
def test_a_finding_matters_is_no_noise_and_no_chance(changed: dict[str, Any], verdict: str) -> None:
    """Each of the conditions is needed."""
    found = judge(report({"price": {"search": changed}}), LIMITS)
    assert found["verdict"] == verdict
    assert found["columns"][0]["scenarios"]["search"]["verdict"] == verdict


def test_one_of_a_thousand_tests_is_surprising_by_chance() -> None:
    """A p-value that alone would do does not among many."""
    many = {f"column {number}": {} for number in range(300)}
    changed = {**SHIFT, "p_value": 1e-5}
    alone = judge(report({"price": {"search": changed}}), LIMITS)
    among = judge(report({"price": {"search": changed}, **many}), LIMITS)
    assert (alone["verdict"], among["verdict"]) == ("act", "ok")


def test_a_finding_says_how_sure_it_is_after_the_correction() -> None:
    """Among 300 columns a p-value is worth a thousandth; finding and cell have it, and the days before."""
    many = {f"column {number}": {} for number in range(300)}
    found = judge(report({"price": {"search": SHIFT}, **many}), LIMITS)
    (finding,), cell = found["findings"], found["columns"][0]["scenarios"]["search"]
    assert finding["corrected_p_value"] > 1000 * finding["p_value"]
    assert cell["corrected_p_values"]["psi"] == finding["corrected_p_value"]
    assert finding["history"] == cell["histories"]["psi"]


def test_numbers_out_of_range_are_tested_like_everything_else() -> None:
    """Beyond their noise they are a finding, unless few rows may do so by chance."""
    changed = {"out_of_range": [0.0, 0.5], "p_values": {"out_of_range": 0.01}}
    assert judge(report({"price": {"search": changed}}), LIMITS)["verdict"] == "ok"


KINDS = {
    "missing": {"missing": [0.01, 0.6], "p_values": {"missing": 1e-20}, **SHIFT},
    "unit": {**SHIFT, "scale": [1000.0, 990.0]},
    "swapped": {"psi": 0.15, "p_value": 1e-20, "scale": None, "swapped": ["ios", "android"]},
    "range": {**SHIFT, "out_of_range": [0.0, 0.5], "p_values": {"missing": 0.5, "out_of_range": 1e-20}},
    "new_values": {"unknown": [0.0, 0.3], "p_values": {"missing": 0.5, "unknown": 1e-20}},
    "stale": {**SHIFT, "fresh": [0.25, 0.0], "fresh_noise": 0.4, "p_values": {"missing": 0.5, "fresh": 1e-20}},
    "covariate": SHIFT,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_and_the_place_are_named(kind: str) -> None:
    """In one scenario it is that scenario's, in all it is one finding of the column."""
    one = judge(report({"price": {"late": KINDS[kind]}}), LIMITS)["findings"]
    all_ = judge(report({"price": dict.fromkeys(SCENARIOS, KINDS[kind])}), LIMITS)["findings"]
    assert [(found["kind"], found["column"], found["scenario"]) for found in one] == [(kind, "price", "late")]
    assert [(found["kind"], found["scenario"], found["verdict"]) for found in all_] == [(kind, "all", "act")]
    assert "price" in one[0]["sentence"]


def test_a_dearer_assortment_is_no_change_of_unit() -> None:
    """A mean that grew by two fifths with its spread is a covariate shift."""
    (found,) = judge(report({"price": {"feed": {**SHIFT, "scale": [1.4, 1.4]}}}), LIMITS)["findings"]
    assert found["kind"] == "covariate"


def test_causes_come_before_effects_and_the_first_decides() -> None:
    """New items explain missing ratings; a broken column asks to look upstream."""
    columns = {
        "rating": dict.fromkeys(SCENARIOS, KINDS["missing"]),
        "item_id": dict.fromkeys(SCENARIOS, KINDS["new_values"]),
    }
    found = judge(report(columns), LIMITS)
    assert [one["kind"] for one in found["findings"]] == ["new_values", "missing"]
    assert "Train again" in found["next_step"]
    assert "upstream" in judge(report({"rating": columns["rating"]}), LIMITS)["next_step"]


def test_a_rate_is_held_against_its_band() -> None:
    """A fall by half outside of the band is acted upon; inside it is nothing."""
    label = {
        "scenario": "late",
        "task": "order",
        "rate": 0.01,
        "reference_rate": 0.02,
        "low": 0.015,
        "high": 0.025,
        "p_value": 1e-9,
        "same_weekday": True,
        "enough_rows": True,
        "histories": {"label_rate": [0.1]},
    }
    found = judge(report({}, labels=[label]), LIMITS)
    assert [(one["kind"], one["scenario"], one["task"]) for one in found["findings"]] == [
        ("label_rate", "late", "order")
    ]
    assert "-50%" in found["reason"]
    assert judge(report({}, labels=[label | {"low": 0.001}]), LIMITS)["verdict"] == "ok"


def test_what_could_not_be_tested_is_ok_without_a_chance() -> None:
    """A task without a label in the window has no p-value, and the page has a place to look for one."""
    label = {"scenario": "late", "task": "order", "rate": None, "reference_rate": 0.02}
    found = judge(report({}, labels=[label]), LIMITS)["labels"][0]
    assert (found["verdict"], found["corrected_p_values"]) == ("ok", {})


def test_the_mix_names_the_scenario_that_moved_most() -> None:
    """With its share now and before."""
    moved = {"scenario": "late", "reference_share": 0.1, "current_share": 0.3}
    mix = {"psi": 0.3, "noise": 0.01, "p_value": 1e-30, "linf_bin": "late", "scenarios": [moved], "histories": {}}
    found = judge(report({}, mix=mix), LIMITS)
    assert found["reason"] == "late makes 30.0% of the impressions, usually 10.0%."


def test_scores_and_calibration_are_judged_apart() -> None:
    """Scores that moved and predictions that are twice too high are two findings of one cell."""
    score = {
        "scenario": "feed",
        "task": "click",
        "rows": 9000,
        "reference_rows": 9000,
        "psi": 0.3,
        "noise": 0.01,
        "p_value": 1e-30,
        "ratio": 2.0,
        "reference_ratio": 1.0,
        "calibration_p_value": 1e-30,
        "histories": {},
    }
    found = judge(report({}, scores=[score]), LIMITS)
    assert {one["kind"] for one in found["findings"]} >= {"calibration"}
    assert found["scores"][0]["calibration_verdict"] == "act"
    assert found["scores"][0]["verdict"] == "act"


RANKING = {
    "scenario": "search",
    "task": "click",
    "rows": 9000,
    "reference_rows": 9000,
    "auc": 0.62,
    "reference_auc": 0.81,
    "fall": 0.19,
    "noise": 0.03,
    "p_value": 1e-30,
    "histories": {},
}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "act"),
        ({"fall": 0.04}, "watch"),
        ({"fall": 0.02, "noise": 0.01}, "ok"),  # too small to matter
        ({"noise": 0.2}, "ok"),  # so few labels say nothing
        ({"rows": 100}, "ok"),
        ({"fall": -0.19, "p_value": 1.0}, "ok"),  # better than on the validation rows
        ({"fall": None, "noise": None, "p_value": None}, "ok"),  # no labels yet
    ],
)
def test_a_model_that_ranks_worse_is_found(changed: dict[str, Any], verdict: str) -> None:
    """Columns, rates and scores may all be as usual: the AUC on the labels says that they mean something else now."""
    found = judge(report({"price": {}}, performance=[RANKING | changed]), LIMITS)
    assert found["verdict"] == verdict
    if verdict == "act":
        (finding,) = found["findings"]
        assert (finding["kind"], finding["reference_value"]) == ("ranking", 0.81)
        assert "click in search is ranked worse: AUC 0.620, on the validation rows 0.810" in found["reason"]
        assert "Train again" in found["next_step"]


def test_what_most_scenarios_have_is_one_finding_of_the_task() -> None:
    """Scores that moved in three of four scenarios are told once, in the figures of the one that moved most."""
    score = {"task": "click", "rows": 9000, "reference_rows": 9000, "noise": 0.01, "p_value": 1e-30, "ratio": None}
    scores = [
        score | {"scenario": name, "psi": psi, "histories": {}}
        for name, psi in zip(SCENARIOS, (0.3, 0.5, 0.4, 0.0), strict=True)
    ]
    (found,) = judge(report({}, scores=scores), LIMITS)["findings"]
    assert (found["kind"], found["scenario"], found["task"]) == ("score", "all", "click")
    assert found["sentence"] == "the scores of click in all scenarios are distributed differently: PSI 0.50"
