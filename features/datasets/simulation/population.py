"""Users, items and taste matrices of the simulated platform: drawn once, from the seed."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.params import Simulation
from features.datasets.simulation import clock
from features.datasets.simulation.clock import DAY, Integers
from features.datasets.simulation.design import (
    ACTIVITY,
    AGES,
    BRANDS,
    CHEAP_TILT,
    CITIES,
    CUISINES,
    DIMENSIONS,
    NEW_SHARE,
    PAIR,
    PREFERENCE,
    PROFILE_ACCURACY,
    PROFILE_MISSING_RATE,
    SCENARIO_SHIFT,
    SCENARIOS,
    TAGS,
    TASK_CORRELATION,
    TASTE,
    ZIPF,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Users:
    """Users: latents [U, ...], stated profile, visits [S, U], since when they are registered [U] (microseconds)."""

    taste: Floats
    sensitivity: Floats
    appetite: Floats
    age: Integers
    city: Integers
    stated: Integers  # cuisine, -1: none stated
    visits: Floats
    since: Integers


@dataclass(frozen=True, kw_only=True)
class Items:
    """Items: latents [I, ...], properties, exposure [S, I], since when they are listed [I] (microseconds)."""

    flavour: Floats
    cuisine: Integers
    brand: Integers
    tags: NDArray[np.bool_]  # [I, len(TAGS)]
    log_price: Floats
    standard_price: Floats  # log_price with mean 0 and standard deviation 1
    quality: Floats
    popularity: Floats
    exposure: Floats
    since: Integers


@dataclass(frozen=True, kw_only=True)
class TasteStrengths:
    """How taste matrices are made: scenarios of a `pair` [S] are alike; the rest as in design.py."""

    pair: Integers = field(default_factory=PAIR.copy)
    parts: tuple[float, ...] = TASTE
    preference: tuple[float, ...] = PREFERENCE
    task_correlation: float = TASK_CORRELATION


def draw_users(random: np.random.Generator, size: Simulation) -> Users:
    """Draw `size.users` users."""
    users = size.users
    cuisine = random.choice(len(CUISINES), users, p=_uneven(random, len(CUISINES)))
    age = random.choice(len(AGES), users, p=[0.25, 0.35, 0.2, 0.12, 0.08])
    city = random.choice(len(CITIES), users, p=[0.4, 0.35, 0.25])
    taste = (
        0.80 * _vectors(random, CUISINES)[cuisine]
        + 0.45 * _vectors(random, AGES)[age]
        + 0.25 * _vectors(random, CITIES)[city]
        + 0.25 * random.normal(size=(users, DIMENSIONS))
    )
    stated = np.where(random.random(users) < PROFILE_ACCURACY, cuisine, random.integers(0, len(CUISINES), users))
    activity = np.exp(ACTIVITY * random.normal(size=users))
    return Users(
        taste=_with_constant(taste),
        sensitivity=_standardised(0.4 * city + random.normal(size=users)),
        appetite=random.normal(size=users),
        age=age,
        city=city,
        stated=np.where(random.random(users) < PROFILE_MISSING_RATE, -1, stated),
        visits=activity * np.exp(SCENARIO_SHIFT * random.normal(size=(len(SCENARIOS), len(AGES))))[:, age],
        since=_draw_since(random, users, size),
    )


def draw_items(random: np.random.Generator, size: Simulation, pair: Integers = PAIR) -> Items:
    """Draw `size.items` items; scenarios of `pair` [S] number 2 show cheap ones more often."""
    items = size.items
    cuisine_of_brand = random.choice(len(CUISINES), BRANDS, p=_uneven(random, len(CUISINES)))
    brand = random.integers(0, BRANDS, items)
    cuisine = cuisine_of_brand[brand]
    tags = random.random((items, len(TAGS))).argsort(axis=1) < random.integers(0, 5, items)[:, None]
    flavour = (
        0.80 * _vectors(random, CUISINES)[cuisine]
        + 0.35 * random.normal(size=(BRANDS, DIMENSIONS))[brand]
        + 0.20 * tags @ _vectors(random, TAGS)
        + 0.20 * random.normal(size=(items, DIMENSIONS))
    )
    log_price = 3.0 + 0.35 * random.normal(size=len(CUISINES))[cuisine] + 0.40 * random.normal(size=items)
    exposure = (ZIPF[0] + random.permutation(items)) ** -ZIPF[1]
    standard_price = _standardised(log_price)
    tilt = CHEAP_TILT * (pair == 2)[:, None] * standard_price
    return Items(
        flavour=_with_constant(flavour),
        cuisine=cuisine,
        brand=brand,
        tags=tags,
        log_price=log_price,
        standard_price=standard_price,
        quality=random.normal(size=items),
        popularity=_standardised(np.log(exposure)),
        exposure=exposure * np.exp(tilt),
        since=_draw_since(random, items, size),
    )


def draw_tastes(random: np.random.Generator, strengths: TasteStrengths) -> Floats:
    """Draw matrices [2, S, D + 1, D + 1] from taste to preferred flavour: alike in a pair, opposed between the tasks.

    The last row and column meet the constants of taste and flavour: they hold for every user and every item.
    """
    side = DIMENSIONS + 1
    shared, own = random.normal(size=(2, 1, side, side)), random.normal(size=(2, len(SCENARIOS), side, side))
    pairs = random.normal(size=(2, 3, side, side))
    pairs = np.sqrt(3 / 2) * (pairs - pairs.mean(axis=1, keepdims=True))  # they sum to zero and keep their variance
    correlation, (of_all, of_pair, of_scenario) = strengths.task_correlation, strengths.parts
    pairs[1] = correlation * pairs[0] + np.sqrt(1 - correlation**2) * pairs[1]
    matrices = of_all * shared + of_pair * pairs[:, strengths.pair] + of_scenario * own
    return _scaled(matrices, strengths.preference)


def _scaled(matrices: Floats, preference: tuple[float, ...]) -> Floats:
    """The same matrices, each with the norms of its three parts set to `preference`, whatever was drawn."""
    parts = np.zeros((3, DIMENSIONS + 1, DIMENSIONS + 1))
    parts[0, :-1, :-1], parts[1, -1, :-1], parts[2, :-1, -1] = 1, 1, 1
    scaled: Floats = sum(
        strength * part * matrices / np.sqrt((part * matrices**2).sum(axis=(-2, -1), keepdims=True))
        for strength, part in zip(preference, parts, strict=True)
    )
    return scaled


def _draw_since(random: np.random.Generator, count: int, size: Simulation) -> Integers:
    """Timestamps [count] of joining: up to two years before the first day; NEW_SHARE of them within the days.

    The first tenth has joined before the first day, so that there is a user and an item at any time.
    """
    start = clock.midnight_of(size.start)
    before = start - 1 - random.integers(0, 730 * DAY, count)
    within = start + random.integers(0, size.days * DAY, count)
    new = random.random(count) < NEW_SHARE
    new[: max(1, count // 10)] = False
    return np.where(new, within, before)


def _vectors(random: np.random.Generator, names: tuple[str, ...]) -> Floats:
    return random.normal(size=(len(names), DIMENSIONS))


def _with_constant(vectors: Floats) -> Floats:
    """Vectors [N, D] as uncorrelated numbers of variance 1, followed by a constant 1: [N, D + 1]."""
    centred = vectors - vectors.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return np.hstack([white, np.ones((len(vectors), 1))])


def _uneven(random: np.random.Generator, count: int) -> Floats:
    return random.dirichlet(np.full(count, 8.0))


def _standardised(values: Floats) -> Floats:
    standardised: Floats = (values - values.mean(axis=0)) / values.std(axis=0)
    return standardised
