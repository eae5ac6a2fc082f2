"""Positions of the simulation: popular items are shown on top, and what is on top is clicked more often."""

import numpy as np

from features.datasets.simulation.clock import Integers
from features.datasets.simulation.design import POSITION_NOISE, POSITIONS
from features.datasets.simulation.platform import Impressions, Platform
from features.datasets.simulation.population import Floats


def draw_positions(random: np.random.Generator, platform: Platform, shown: Impressions) -> Integers:
    """The position of each impression [N], from 1: popular items are on top, with noise."""
    popularity = platform.items.popularity[shown.item]
    order = np.argsort(np.argsort(-popularity + POSITION_NOISE * random.normal(size=len(popularity))))
    positions: Integers = 1 + order * POSITIONS // max(len(order), 1)
    return positions


def position_effects(positions: Integers, strength: float) -> Floats:
    """The effects of positions on the logit of a click [N]: -strength x log(position), less its mean over positions."""
    effects = -strength * np.log(np.arange(1, POSITIONS + 1))
    of_rows: Floats = (effects - effects.mean())[positions - 1]
    return of_rows
