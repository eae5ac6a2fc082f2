"""The strengths of all effects on a click and an order: those of the design, or those of another world.

The numbers of the design were chosen while networks were compared on it. Those of another world are drawn by a seed, so
that nobody has chosen them.
"""

from dataclasses import dataclass

import numpy as np

from features.datasets.simulation import design
from features.datasets.simulation.clock import Integers
from features.datasets.simulation.population import Floats, TasteStrengths

Pair = tuple[float, float]  # (click, order given click)


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Standard deviations of the effects, on the scale of a logit, and which scenarios share a taste (`pair` [S])."""

    quality: Pair
    appetite: Pair
    daypart: Pair
    device: Pair
    weekend: Pair
    distance: Pair
    price: Floats  # [2, pairs]
    popularity: Floats  # [2, pairs]
    taste: TasteStrengths


DESIGNED = Effects(
    quality=design.QUALITY,
    appetite=design.APPETITE,
    daypart=design.DAYPART,
    device=design.DEVICE,
    weekend=design.WEEKEND,
    distance=design.DISTANCE,
    price=design.PRICE,
    popularity=design.POPULARITY,
    taste=TasteStrengths(),
)
SPREAD = 0.4  # standard deviation of the logarithm of a strength, by that of the design


def effects_of(world_seed: int | None) -> Effects:
    """The effects of the world of this seed; None: those of the design.

    Another world has other strengths, other signs and sizes of the effects of price and popularity, other pairs of
    scenarios, and another correlation between the tastes of clicks and of orders.
    """
    if world_seed is None:
        return DESIGNED
    random = np.random.default_rng([world_seed, 1])

    def strengths(designed: tuple[float, ...]) -> tuple[float, ...]:
        return tuple((np.array(designed) * np.exp(SPREAD * random.normal(size=len(designed)))).tolist())

    def pair(designed: Pair) -> Pair:
        click, order = strengths(designed)
        return click, order

    return Effects(
        quality=pair(design.QUALITY),
        appetite=pair(design.APPETITE),
        daypart=pair(design.DAYPART),
        device=pair(design.DEVICE),
        weekend=pair(design.WEEKEND),
        distance=pair(design.DISTANCE),
        price=_signed(random, design.PRICE),
        popularity=_signed(random, design.POPULARITY),
        taste=TasteStrengths(
            pair=_pairs(random),
            parts=strengths(design.TASTE),
            preference=strengths(design.PREFERENCE),
            task_correlation=float(random.uniform(-0.9, 0.9)),
        ),
    )


def _signed(random: np.random.Generator, designed: Floats) -> Floats:
    """Effects of any sign, as large in the mean square as those of the design."""
    drawn: Floats = np.sqrt((designed**2).mean()) * random.normal(size=designed.shape)
    return drawn


def _pairs(random: np.random.Generator) -> Integers:
    """The number of each scenario's pair [S]: any of the partitions into pairs of the sizes of the design."""
    pairs: Integers = random.permutation(design.PAIR)
    return pairs
