"""Verdicts: a finding exceeds its limit, its noise and chance; it names column, scenario and the next step."""

from typing import Any

import pytest

from monitoring.detection.verdict import evaluate
from tests.support.drift_comparison import KINDS, LIMITS, SCENARIOS, SHIFT, comparison, mix_row, volume_row

pytestmark = pytest.mark.unit


def test_without_a_change_the_verdict_is_ok() -> None:
    """No finding, and nothing to do."""
    result = evaluate(comparison({"price": {}}), LIMITS)
    assert (result["verdict"], result["findings"]) == ("ok", [])


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        (SHIFT, "act"),
        ({**SHIFT, "psi": 0.15}, "watch"),
        ({**SHIFT, "psi": 0.05}, "ok"),  # too small to matter
        ({**SHIFT, "noise": 0.5}, "ok"),  # within the noise of the reference
        ({**SHIFT, "p_value": 0.01}, "ok"),  # possibly chance
        ({**SHIFT, "untested": "grows"}, "ok"),  # the age of the history explains it
    ],
)
def test_a_finding_exceeds_limit_noise_and_chance(changed: dict[str, Any], verdict: str) -> None:
    """Each of the conditions is necessary."""
    result = evaluate(comparison({"price": {"search": changed}}), LIMITS)
    assert result["verdict"] == verdict
    assert result["columns"][0]["scenarios"]["search"]["verdict"] == verdict


def test_a_scenario_of_few_rows_is_not_ok_but_not_tested() -> None:
    """The verdict is that of the other scenarios."""
    result = evaluate(comparison({"price": {"search": {**SHIFT, "enough_rows": False}}}), LIMITS)
    assert result["verdict"] == "ok"
    assert result["columns"][0]["scenarios"]["search"]["verdict"] is None


def test_one_of_a_thousand_tests_is_surprising_by_chance() -> None:
    """A p-value that is significant for one test is not among many tests."""
    many = {f"column {number}": {} for number in range(300)}
    changed = {**SHIFT, "p_value": 1e-5}
    single = evaluate(comparison({"price": {"search": changed}}), LIMITS)
    among = evaluate(comparison({"price": {"search": changed}, **many}), LIMITS)
    assert (single["verdict"], among["verdict"]) == ("act", "ok")


def test_a_finding_has_its_corrected_p_value_and_history() -> None:
    """Among 300 columns a p-value is over 1000 times as large; finding and cell have it, and the history."""
    many = {f"column {number}": {} for number in range(300)}
    result = evaluate(comparison({"price": {"search": SHIFT}, **many}), LIMITS)
    (finding,), cell = result["findings"], result["columns"][0]["scenarios"]["search"]
    assert finding["corrected_p_value"] > 1000 * finding["p_value"]
    assert cell["corrected_p_values"]["psi"] == finding["corrected_p_value"]
    assert finding["history"] == cell["histories"]["psi"]


def test_numbers_out_of_range_need_a_small_p_value() -> None:
    """Beyond their limit and noise they are no finding where chance explains them."""
    changed = {"out_of_range": [0.0, 0.5], "p_values": {"out_of_range": 0.01}}
    assert evaluate(comparison({"price": {"search": changed}}), LIMITS)["verdict"] == "ok"


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_and_the_scenario_are_named(kind: str) -> None:
    """A change in one scenario is a finding there, in all scenarios one finding of the column."""
    one = evaluate(comparison({"price": {"late": KINDS[kind]}}), LIMITS)["findings"]
    all_ = evaluate(comparison({"price": dict.fromkeys(SCENARIOS, KINDS[kind])}), LIMITS)["findings"]
    assert [(finding["kind"], finding["column"], finding["scenario"]) for finding in one] == [(kind, "price", "late")]
    assert [(finding["kind"], finding["scenario"], finding["verdict"]) for finding in all_] == [(kind, "all", "act")]
    assert "price" in one[0]["sentence"]


def test_higher_prices_are_no_change_of_unit() -> None:
    """A mean that grew by two fifths with its spread is a covariate shift."""
    (finding,) = evaluate(comparison({"price": {"feed": {**SHIFT, "scale": [1.4, 1.4]}}}), LIMITS)["findings"]
    assert finding["kind"] == "covariate"


def test_causes_come_before_effects_and_the_first_decides() -> None:
    """New items explain missing ratings; the next step of a broken column is upstream."""
    columns = {
        "rating": dict.fromkeys(SCENARIOS, KINDS["missing"]),
        "item_id": dict.fromkeys(SCENARIOS, KINDS["new_values"]),
    }
    result = evaluate(comparison(columns), LIMITS)
    assert [one["kind"] for one in result["findings"]] == ["new_values", "missing"]
    assert "Train again" in result["next_step"]
    assert "upstream" in evaluate(comparison({"rating": columns["rating"]}), LIMITS)["next_step"]


def test_a_rate_is_compared_with_its_band() -> None:
    """A fall by half outside of the band is a finding; inside it is none."""
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
    result = evaluate(comparison({"price": {}}, labels=[label]), LIMITS)
    assert [(one["kind"], one["scenario"], one["task"]) for one in result["findings"]] == [
        ("label_rate", "late", "order")
    ]
    assert "-50%" in result["reason"]
    assert evaluate(comparison({"price": {}}, labels=[label | {"low": 0.001}]), LIMITS)["verdict"] == "ok"


def test_an_entry_without_a_test_has_neither_verdict_nor_p_value() -> None:
    """A task without a label in the window has no p-value, but the entry that the page reads."""
    label = {"scenario": "late", "task": "order", "rate": None, "reference_rate": 0.02}
    result = evaluate(comparison({"price": {}}, labels=[label]), LIMITS)["labels"][0]
    assert (result["verdict"], result["corrected_p_values"]) == (None, {})


def test_the_mix_names_the_scenario_that_moved_most() -> None:
    """With its share in both windows."""
    moved = {"psi": 0.3, "noise": 0.01, "p_value": 1e-30, "linf_bin": "late", "enough_rows": True, "histories": {}}
    mix = moved | {"scenarios": [mix_row("late", reference_share=0.1, current_share=0.3)]}
    result = evaluate(comparison({"price": {}}, mix=mix), LIMITS)
    assert result["reason"] == "late makes 30.0% of the impressions, usually 10.0%."


def test_scores_and_calibration_are_tested_separately() -> None:
    """Scores that moved and predictions that are too high by a factor of two are two findings of one cell."""
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
    result = evaluate(comparison({"price": {}}, scores=[score]), LIMITS)
    assert {one["kind"] for one in result["findings"]} >= {"calibration"}
    assert result["scores"][0]["calibration_verdict"] == "act"
    assert result["scores"][0]["verdict"] == "act"


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
        ({"noise": 0.2}, "ok"),  # too few labels
        ({"rows": 100}, "ok"),
        ({"fall": -0.19, "p_value": 1.0}, "ok"),  # better than on the validation rows
        ({"fall": None, "noise": None, "p_value": None}, "ok"),  # no labels yet
    ],
)
def test_a_lower_auc_is_a_finding(changed: dict[str, Any], verdict: str) -> None:
    """Also where columns, rates and scores are as usual: the relation of columns and labels has changed."""
    result = evaluate(comparison({"price": {}}, performance=[RANKING | changed]), LIMITS)
    assert result["verdict"] == verdict
    if verdict == "act":
        (finding,) = result["findings"]
        assert (finding["kind"], finding["reference_value"]) == ("ranking", 0.81)
        assert "click in search is ranked worse: AUC 0.620, on the validation rows 0.810" in result["reason"]
        assert "Train again" in result["next_step"]


def test_a_change_in_most_scenarios_is_one_finding() -> None:
    """Scores that moved in three of four scenarios are one finding, with the values of the one that moved most."""
    score = {"task": "click", "rows": 9000, "reference_rows": 9000, "noise": 0.01, "p_value": 1e-30, "ratio": None}
    scores = [
        score | {"scenario": name, "psi": psi, "histories": {}}
        for name, psi in zip(SCENARIOS, (0.3, 0.5, 0.4, 0.0), strict=True)
    ]
    (finding,) = evaluate(comparison({"price": {}}, scores=scores), LIMITS)["findings"]
    assert (finding["kind"], finding["scenario"], finding["task"]) == ("score", "all", "click")
    assert finding["sentence"] == "the scores of click in all scenarios are distributed differently: PSI 0.50"


def test_of_a_growing_column_fewer_missing_values_are_no_finding_and_more_are() -> None:
    """More users have a history as the log grows; that fewer have one has another cause."""
    verdicts = []
    for shares in ([0.6, 0.01], [0.01, 0.6]):
        changed = {"grows": True, "untested": "grows", "missing": shares, "p_values": {"missing": 1e-20}}
        verdicts.append(evaluate(comparison({"counter": {"search": changed}}), LIMITS)["verdict"])
    assert verdicts == ["ok", "act"]


def test_without_a_tested_column_there_is_no_verdict() -> None:
    """Neither ok nor drift: the reason has the rows of the window, the next step how many would do."""
    few = {name: {"enough_rows": False} for name in SCENARIOS}
    scenarios = [mix_row(name, current_rows=count) for name, count in zip(SCENARIOS, (7, 0, 0, 0), strict=True)]
    compared = comparison({"price": few})
    compared["mix"] |= {"enough_rows": False, "scenarios": scenarios}
    result = evaluate(compared, LIMITS)
    assert (result["verdict"], result["findings"]) == ("none", [])
    assert "of the 7 rows of the window at most 7 are of one scenario (feed)" in result["reason"]
    assert "tested from 500 on" in result["reason"]
    assert "36,000 rows" in result["reason"]
    assert "About 2,000 rows of the usual mix would do" in result["next_step"]


def test_a_reference_of_few_rows_gives_no_verdict() -> None:
    """The remedy is to train on more rows, not a longer window."""
    compared = comparison({"price": {name: {"enough_rows": False} for name in SCENARIOS}})
    compared["mix"]["scenarios"] = [mix_row(name, reference_rows=120) for name in SCENARIOS]
    result = evaluate(compared, LIMITS)
    assert result["verdict"] == "none"
    assert "in the reference, the largest has 120" in result["reason"]
    assert "Train on more rows" in result["next_step"]


def test_an_ok_names_the_scenarios_that_were_not_tested() -> None:
    """Their rows are too few."""
    result = evaluate(comparison({"price": {"late": {"enough_rows": False}}}), LIMITS)
    assert result["verdict"] == "ok"
    assert "Too few rows to test late." in result["reason"]


def test_a_collapse_of_the_rows_is_a_finding() -> None:
    """In one scenario it is named; in all of them it is one finding."""
    gone = {"rows": 900, "change": -0.9, "p_value": 1e-20}
    for scenarios, where in ((("search",), "search"), (SCENARIOS, "all")):
        compared = comparison({"price": {}})
        rows = [volume_row(name, **(gone if name in scenarios else {})) for name in SCENARIOS]
        compared["volume"]["scenarios"] = rows
        (finding,) = evaluate(compared, LIMITS)["findings"]
        assert (finding["kind"], finding["verdict"], finding["scenario"]) == ("volume", "act", where)
        assert "has 900 rows, usually 9,000 (-90%)" in finding["sentence"]
