"""features/datasets/simulation/effects.py: other worlds than the one of the design."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common import params
from features.datasets.simulation import platform
from features.datasets.simulation.design import PAIR, SCENARIOS
from features.datasets.simulation.effects import DESIGNED, Effects, effects_of

pytestmark = pytest.mark.unit
WORLDS = (1, 2, 3)


def plain(effects: Effects) -> dict[str, Any]:
    """The effects as lists."""
    return {name: np.asarray(value).tolist() for name, value in flat(effects).items()}


def flat(effects: Effects) -> dict[str, Any]:
    """All numbers of the effects by name."""
    fields = {field.name: getattr(effects, field.name) for field in dataclasses.fields(effects)}
    return {name: value for name, value in fields.items() if name != "taste"} | vars(effects.taste)


def test_without_a_seed_the_effects_are_those_of_the_design() -> None:
    """The platform of before is drawn number by number."""
    assert effects_of(None) is DESIGNED
    assert DESIGNED.taste.pair.tolist() == PAIR.tolist()


@pytest.mark.parametrize("seed", WORLDS)
def test_a_world_is_drawn_by_its_seed(seed: int) -> None:
    """The same seed gives the same effects; another one, and the design, differ in every one of them."""
    drawn = plain(effects_of(seed))
    assert drawn == plain(effects_of(seed))
    for other in (effects_of(seed + 10), DESIGNED):
        assert [name for name, value in plain(other).items() if value == drawn[name]] in ([], ["pair"])


@pytest.mark.parametrize("seed", WORLDS)
def test_scenarios_that_share_a_taste_are_two_each(seed: int) -> None:
    """Six scenarios are three pairs in any world."""
    assert sorted(effects_of(seed).taste.pair.tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("seed", WORLDS)
def test_the_best_possible_auc_of_a_world_is_plausible(seed: int) -> None:
    """There is something to learn in every world, and not everything: a click's AUC is between 0.7 and 0.92."""
    size = params.load().dataset.simulation.model_copy(update={"users": 500, "items": 300, "world_seed": seed})
    made, random = platform.build_platform(size), np.random.default_rng(0)
    for scenario in range(len(SCENARIOS)):
        devices = np.tile([0.35, 0.55, 0.1], (len(SCENARIOS), 1))
        midnight = platform.clock.midnight_of(size.start) + 3 * platform.DAY
        shown = platform.draw_impressions(random, made, np.full(20_000, scenario), midnight, devices)
        probability = platform.sigmoid(platform.logits(made, shown)[0])
        clicked = random.random(len(probability)) < probability
        assert 0.7 < roc_auc_score(clicked, probability) < 0.92
