"""The simulated platform: who sees what, and the true logits of clicks and orders."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from common.params import Simulation
from features.datasets.simulation import clock
from features.datasets.simulation.clock import DAY, Integers
from features.datasets.simulation.design import (
    CUISINES,
    DEVICE_SHARES,
    DEVICES,
    DISTANCE_FACTOR,
    DISTANCE_SCALE,
    DISTANCE_SPREAD,
    RATES,
    SCENARIOS,
    TYPICAL_KM,
    WATCH_INTEREST,
    WATCH_SECONDS,
    WATCH_SPREAD,
)
from features.datasets.simulation.effects import Effects, effects_of
from features.datasets.simulation.population import Floats, Items, Users, draw_items, draw_tastes, draw_users

_PROBE = 40_000  # impressions of a scenario by which its rates are set


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The truth: what adds up to the logits of a click and of an order given the click (the first axis: task)."""

    effects: Effects
    users: Users
    items: Items
    appeal: Floats  # [2, S, I, D + 1]: taste matrix of the scenario times flavour of the item
    daypart: Floats  # [2, 4, cuisines]
    device: Floats  # [2, devices]
    bias: Floats  # [2, S]


@dataclass(frozen=True, kw_only=True)
class Impressions:
    """What is shown to whom [N each]: codes, timestamp (microseconds), distance of the kitchen (km)."""

    scenario: Integers
    timestamp: Integers
    user: Integers
    item: Integers
    device: Integers
    distance: Floats


def build_platform(
    size: Simulation, rates: Floats = RATES, taste_of: tuple[int, ...] = tuple(range(len(SCENARIOS)))
) -> Platform:
    """The platform of this size and seed with these `rates` [2, S]; other rates change nothing but its bias.

    Scenario s has the taste matrix that was drawn for the scenario `taste_of[s]`.
    """
    random, effects = np.random.default_rng([size.seed, 0]), effects_of(size.world_seed)
    items = draw_items(random, size, effects.taste.pair)
    appeal = np.einsum("tsde,ie->tsid", draw_tastes(random, effects.taste)[:, taste_of], items.flavour)
    unbiased = Platform(
        effects=effects,
        users=draw_users(random, size),
        items=items,
        appeal=appeal,
        daypart=random.normal(size=(2, 4, len(CUISINES))),
        device=random.normal(size=(2, len(DEVICES))),
        bias=np.zeros((2, len(SCENARIOS))),
    )
    probes = (_draw_probe(random, unbiased, size, scenario) for scenario in range(len(SCENARIOS)))
    bias = [_biases(unbiased, probe, *of_scenario) for probe, of_scenario in zip(probes, rates.T, strict=True)]
    return dataclasses.replace(unbiased, bias=np.array(bias).T)


def _draw_probe(random: np.random.Generator, platform: Platform, size: Simulation, scenario: int) -> Impressions:
    midnight = clock.midnight_of(size.start) + DAY * random.integers(0, size.days, _PROBE)
    devices = np.tile(DEVICE_SHARES, (len(SCENARIOS), 1))
    return draw_impressions(random, platform, np.full(_PROBE, scenario), midnight, devices)


def _biases(platform: Platform, probe: Impressions, clicks: float, orders: float) -> tuple[float, float]:
    """The biases with which the probe has `clicks` clicks and `orders` orders per impression."""
    click, order = logits(platform, probe)
    click_bias = _solve_bias(click, np.ones(_PROBE), clicks)
    return click_bias, _solve_bias(order, sigmoid(click + click_bias), orders)


def _solve_bias(logit: Floats, weight: Floats, rate: float) -> float:
    """The bias for which mean(weight * sigmoid(logit + bias)) is `rate`, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        below = (weight * sigmoid(logit + middle)).mean() < rate
        low, high = (middle, high) if below else (low, middle)
    return low


def draw_impressions(
    random: np.random.Generator, platform: Platform, scenario: Integers, midnight: int | Integers, devices: Floats
) -> Impressions:
    """Draw impressions in their scenario [N] within the day that begins at `midnight`.

    `devices` [S, devices] holds the shares of the devices. No user is drawn before registering, no item before listing.
    """
    users, items = platform.users, platform.items
    timestamp = clock.draw_timestamps(random, midnight, scenario == SCENARIOS.index("late_night"))
    user = draw_indices(random, users.visits, users.since, scenario, timestamp)
    item = draw_indices(random, items.exposure, items.since, scenario, timestamp)
    device = (random.random(len(scenario))[:, None] >= devices.cumsum(axis=1)[scenario, :-1]).sum(axis=1)
    typical = TYPICAL_KM[scenario] * DISTANCE_FACTOR[users.city[user]]
    return Impressions(
        scenario=scenario,
        timestamp=timestamp,
        user=user,
        item=item,
        device=device,
        distance=typical * np.exp(DISTANCE_SPREAD * random.normal(size=len(scenario))),
    )


def draw_indices(
    random: np.random.Generator, weights: Floats, since: Integers, scenario: Integers, timestamp: Integers
) -> Integers:
    """Draw indices [N] in proportion to `weights` [S, K] of the scenario, among those with `since` [K] in the past."""
    drawn = np.full(len(scenario), -1)
    cumulative = np.cumsum(weights, axis=1)
    while len(open_rows := np.flatnonzero((drawn < 0) | (since[drawn] > timestamp))):
        for code in np.unique(scenario[open_rows]):
            rows = open_rows[scenario[open_rows] == code]
            point = random.random(len(rows)) * cumulative[code, -1]
            drawn[rows] = np.minimum(np.searchsorted(cumulative[code], point, side="right"), len(since) - 1)
    return drawn


def logits(platform: Platform, shown: Impressions) -> Floats:
    """Logits [2, N]: of a click, and of an order given the click."""
    users, items, effects = platform.users, platform.items, platform.effects
    pair = effects.taste.pair[shown.scenario]
    user, item, device = shown.user, shown.item, shown.device
    daypart, weekend = clock.hour(shown.timestamp) // 6, clock.weekday(shown.timestamp) >= 5
    price = users.sensitivity[user] * items.standard_price[item]
    distance = np.log(shown.distance) / DISTANCE_SCALE
    terms = [
        (
            effects.appetite[task] * users.appetite[user]
            + effects.quality[task] * items.quality[item]
            + effects.daypart[task] * platform.daypart[task, daypart, items.cuisine[item]]
            + effects.device[task] * platform.device[task, device]
            + effects.weekend[task] * weekend
            + effects.distance[task] * distance
            + effects.price[task, pair] * price
            + effects.popularity[task, pair] * items.popularity[item]
            + np.einsum("nd,nd->n", users.taste[user], platform.appeal[task, shown.scenario, item])
            + platform.bias[task, shown.scenario]
        )
        for task in (0, 1)
    ]
    return np.stack(terms)


def watch_means(platform: Platform, shown: Impressions, click: Floats) -> Floats:
    """The expected watch time of each impression in seconds [N], from the logits of its click [N]."""
    interest = click - platform.bias[0, shown.scenario]
    means: Floats = WATCH_SECONDS * np.exp(WATCH_INTEREST * interest + WATCH_SPREAD**2 / 2)
    return means


def draw_watch_times(random: np.random.Generator, means: Floats) -> Floats:
    """Draw log-normal watch times with these means [N]."""
    times: Floats = means * np.exp(WATCH_SPREAD * random.normal(size=len(means)) - WATCH_SPREAD**2 / 2)
    return times


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit))."""
    return 1 / (1 + np.exp(-logit))
