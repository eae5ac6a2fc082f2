"""Each shift does what its description says, and only that: compared with the same log without it, row by row."""

from functools import cache
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ParameterError
from common.params import Shift
from features.datasets.simulation import dataset as simulation
from features.datasets.simulation.design import DEVICE_SHARES, DEVICES, SCENARIOS, SHARES
from features.datasets.simulation.shifts import (
    CONVERSION_FACTOR,
    MIX_FACTOR,
    NEW_ITEM_RATIO,
    NEW_ITEM_SHARE,
    WEB_HEAVY_DEVICES,
    WEEKEND_DEVICES,
)
from models.evaluation.metrics import auc
from tests.support.examples import examples
from tests.support.simulation_log import dataset, events

pytestmark = pytest.mark.integration

SIZE = {"impressions": 40_000, "users": 1000, "items": 300}
FIRST = pd.Timestamp("2026-01-14")  # day 10
KINDS = get_args(Shift.model_fields["kind"].annotation)
LATER = tuple(kind for kind in KINDS if kind not in ("none", "season"))
TRUTH = ["p_click", "p_order"]


def shift(kind: str) -> Shift:
    """A shift from day 10 on; in the flash sale, where it is in one scenario."""
    return Shift(kind=kind, from_day=10, scenario="flash_sale")


@cache
def log(kind: str) -> pd.DataFrame:
    """40,000 impressions of 14 days with this shift."""
    return events(**SIZE, shift=shift(kind))


def sides(kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows from the first day of the shift on: without it, and with it."""
    after = log("none")["timestamp"] >= FIRST
    return log("none")[after], log(kind)[after]


def columns(frame: pd.DataFrame, *left_out: str) -> pd.DataFrame:
    """All columns except `left_out`."""
    return frame.drop(columns=list(left_out))


def shares(rows: pd.DataFrame, column: str, values: tuple[str, ...]) -> Any:
    """Share of each of the values among the rows."""
    return rows[column].value_counts(normalize=True).reindex(list(values), fill_value=0)


def test_the_scenarios_of_a_shift_are_those_of_the_platform() -> None:
    """params.yaml may name every scenario of the platform, and no other."""
    assert get_args(Shift.model_fields["scenario"].annotation) == SCENARIOS


@pytest.mark.parametrize("kind", LATER)
def test_before_its_first_day_nothing_is_changed(kind: str) -> None:
    """Up to the end of day 9 the log is the same to the last bit, on day 10 it differs."""
    before = log("none")["timestamp"] < FIRST
    pd.testing.assert_frame_equal(log(kind)[before], log("none")[before])
    tenth = log("none")["timestamp"].dt.normalize() == FIRST
    assert not log(kind)[tenth].equals(log("none")[tenth])


def test_without_a_shift_its_day_and_scenario_do_not_matter() -> None:
    """`none` changes nothing, whatever its day and scenario are; `season` has no first day."""
    other = Shift(kind="none", from_day=2, scenario="search")
    pd.testing.assert_frame_equal(events(**SIZE, shift=other), log("none"))
    other = Shift(kind="season", from_day=2, scenario="search")
    pd.testing.assert_frame_equal(events(**SIZE, shift=other), log("season"))


def test_covariate() -> None:
    """In the flash sale 45 % come from the web instead of 10 %; labels follow; all other rows and columns stay."""
    usual, shifted = sides("covariate")
    here = usual["scenario"] == "flash_sale"
    np.testing.assert_allclose(shares(usual[here], "device", DEVICES), DEVICE_SHARES, atol=0.04)
    np.testing.assert_allclose(shares(shifted[here], "device", DEVICES), WEB_HEAVY_DEVICES, atol=0.04)
    same = ~here | (usual["device"] == shifted["device"])
    pd.testing.assert_frame_equal(shifted[same], usual[same])
    reactions = ("device", "click", "order", *TRUTH)
    pd.testing.assert_frame_equal(columns(shifted, *reactions), columns(usual, *reactions))
    assert (shifted[~same][TRUTH] != usual[~same][TRUTH]).all(axis=None)


def test_mix() -> None:
    """The share of the flash sale is tripled, the others keep their proportions; within a scenario nothing changes."""
    usual, shifted = sides("mix")
    index = SCENARIOS.index("flash_sale")
    expected = np.delete(SHARES, index) / np.delete(SHARES, index).sum() * (1 - MIX_FACTOR * SHARES[index])
    expected = np.insert(expected, index, MIX_FACTOR * SHARES[index])
    np.testing.assert_allclose(shares(shifted, "scenario", SCENARIOS), expected, atol=0.015)
    for scenario in ("home_feed", "search", "flash_sale"):
        then, now = (rows[rows["scenario"] == scenario] for rows in (usual, shifted))
        np.testing.assert_allclose(shares(now, "device", DEVICES), shares(then, "device", DEVICES), atol=0.05)
        assert now["p_click"].mean() == pytest.approx(then["p_click"].mean(), rel=0.15)
        assert np.log(now["distance_km"]).mean() == pytest.approx(np.log(then["distance_km"]).mean(), abs=0.05)


def test_a_share_that_cannot_be_tripled_is_refused() -> None:
    """The home feed has 40 % of the impressions; the message says which parameter to set."""
    shift = Shift(kind="mix", from_day=10, scenario="home_feed")
    with pytest.raises(ParameterError, match=r"home_feed has 40%.*scenario to a smaller one"):
        simulation.read(dataset(**SIZE, shift=shift))


def test_new_items() -> None:
    """A fifth of the impressions of each scenario goes to new items, none before its listing; others stay."""
    usual, shifted = sides("new_items")
    new = shifted["item_id"] > SIZE["items"]
    np.testing.assert_allclose(new.groupby(shifted["scenario"]).mean(), NEW_ITEM_SHARE, atol=0.05)
    assert new.mean() == pytest.approx(NEW_ITEM_SHARE, abs=0.01)
    pd.testing.assert_frame_equal(shifted[~new], usual[~new])
    reactions = ("item_id", "click", "order", *TRUTH)
    pd.testing.assert_frame_equal(columns(shifted, *reactions), columns(usual, *reactions))


def test_new_items_are_listed() -> None:
    """New items follow the others, which stay as they were, and are listed from the day of the shift on."""
    items, without = (simulation.read(dataset(**SIZE, shift=shift(kind))).items for kind in ("new_items", "none"))
    pd.testing.assert_frame_equal(items.head(SIZE["items"]), without)
    new = items.iloc[SIZE["items"] :]
    assert len(new) == NEW_ITEM_RATIO * SIZE["items"]
    assert new["listed_at"].min() == FIRST
    assert new["rating"].isna().all()
    joined = log("new_items").merge(items, on="item_id")
    assert (joined["timestamp"] >= joined["listed_at"]).all()
    assert joined.loc[joined["item_id"] > SIZE["items"], "item_id"].nunique() == len(new)


def test_missing() -> None:
    """No distance is recorded; clicks and orders follow the true one."""
    usual, shifted = sides("missing")
    assert shifted["distance_km"].isna().all()
    pd.testing.assert_frame_equal(columns(shifted, "distance_km"), columns(usual, "distance_km"))


def test_unit() -> None:
    """Distances are a thousand times as large, within the declared bounds; missing ones stay missing."""
    usual, shifted = sides("unit")
    np.testing.assert_allclose(shifted["distance_km"], 1000 * usual["distance_km"], rtol=1e-6)
    pd.testing.assert_frame_equal(columns(shifted, "distance_km"), columns(usual, "distance_km"))
    (declared,) = (c for c in simulation.declare(dataset()).context if c.name == "distance_km")
    assert declared.maximum is None


def test_swapped() -> None:
    """The device ios is recorded as android and the other way round; web is web, labels follow the true device."""
    usual, shifted = sides("swapped")
    other = usual["device"].astype(str).replace({"ios": "android", "android": "ios"})
    assert (shifted["device"].astype(str) == other).all()
    pd.testing.assert_frame_equal(columns(shifted, "device"), columns(usual, "device"))


def test_conversion() -> None:
    """Orders given a click fall to 40 % in the flash sale, for every impression; clicks stay as they were."""
    usual, shifted = sides("conversion")
    here = usual["scenario"] == "flash_sale"
    pd.testing.assert_frame_equal(shifted[~here], usual[~here])
    pd.testing.assert_frame_equal(columns(shifted, "order", "p_order"), columns(usual, "order", "p_order"))
    assert (shifted[here]["p_order"] < usual[here]["p_order"]).all()
    assert shifted[here]["p_order"].sum() / usual[here]["p_order"].sum() == pytest.approx(CONVERSION_FACTOR, rel=0.1)
    assert shifted[here]["order"].sum() < 0.6 * usual[here]["order"].sum()


def test_taste() -> None:
    """Only clicks and orders change: as many as before, but the old probabilities no longer predict them."""
    usual, shifted = sides("taste")
    pd.testing.assert_frame_equal(columns(shifted, "click", "order", *TRUTH), columns(usual, "click", "order", *TRUTH))
    for scenario, rows in shifted.groupby("scenario"):
        before = usual.loc[rows.index, "p_click"]
        assert rows["p_click"].mean() == pytest.approx(before.mean(), rel=0.2), scenario
        assert np.corrcoef(rows["p_click"], before)[0, 1] < 0.6, scenario
        assert auc(rows["click"], before) < auc(rows["click"], rows["p_click"]) - 0.08, scenario


def test_season() -> None:
    """On both weekends web is doubled and clicks are a quarter less, in all scenarios; other days stay."""
    usual, shifted = log("none"), log("season")
    weekend = usual["timestamp"].dt.dayofweek >= 5
    pd.testing.assert_frame_equal(shifted[~weekend], usual[~weekend])
    for scenario, rows in shifted[weekend].groupby("scenario"):
        np.testing.assert_allclose(shares(rows, "device", DEVICES), WEEKEND_DEVICES, atol=0.06)
        workdays = usual[~weekend & (usual["scenario"] == scenario)]
        assert rows["p_click"].mean() == pytest.approx(0.75 * workdays["p_click"].mean(), rel=0.15), scenario
    ratio = shifted[weekend]["p_click"].mean() / usual[~weekend]["p_click"].mean()
    assert ratio == pytest.approx(0.75, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["click", "order"])
def test_true_probabilities_stay_calibrated(kind: str, task: str) -> None:
    """Under every shift the rates of the labels are p_click and p_order (within 4 standard errors)."""
    _, shifted = sides(kind)
    chance = shifted[f"p_{task}"]
    error = np.sqrt((chance * (1 - chance)).sum())
    assert abs(shifted[task].sum() - chance.sum()) < 4 * error
    assert (shifted["p_order"] < shifted["p_click"]).all()


@settings(max_examples=examples(15), deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(SCENARIOS[2:]), st.integers(3, 9), st.data())
def test_any_shift_on_any_day(kind: str, scenario: str, days: int, data: st.DataObject) -> None:
    """The requested number of rows, known users and items, no item before its listing, on any first day."""
    shift = Shift(kind=kind, from_day=data.draw(st.integers(1, days)), scenario=scenario)
    source = simulation.read(dataset(impressions=2000, users=50, items=20, days=days, shift=shift))
    frame = pd.concat(source.chunks())
    assert len(frame) == 2000
    assert frame["user_id"].isin(source.users["user_id"]).all()
    joined = frame.merge(source.items, on="item_id")
    assert len(joined) == 2000
    assert (joined["timestamp"] >= joined["listed_at"]).all()
    assert not (frame["distance_km"] < 0).any()
