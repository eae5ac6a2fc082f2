"""The town behind the simulation: who lives there, what is on the menu, and what is truly clicked and ordered.

The numbers below are the whole design. Standard deviations of effects are on the scale of a logit: together about
1.3 for a click, which puts the best possible AUC near 0.84.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.params import Simulation
from features.datasets.simulation import clock
from features.datasets.simulation.clock import DAY, Integers

Floats = NDArray[np.float64]

SCENARIOS = ("home_feed", "search", "channel", "flash_sale", "nearby", "late_night")
SHARES = np.array([0.40, 0.25, 0.15, 0.10, 0.06, 0.04])  # of the impressions
PAIR = np.array([0, 1, 0, 2, 1, 2])  # scenarios with the same number want the same
RATES = np.array(
    [
        [0.05, 0.15, 0.08, 0.10, 0.07, 0.05],  # clicks per impression
        [0.003, 0.040, 0.009, 0.028, 0.022, 0.016],  # orders per impression
    ]
)
CUISINES = (
    "noodles",
    "rice",
    "burger",
    "pizza",
    "sushi",
    "curry",
    "salad",
    "barbecue",
    "dumplings",
    "bakery",
    "dessert",
    "coffee",
)
TAGS = (
    "spicy",
    "vegan",
    "halal",
    "new",
    "combo",
    "discount",
    "family",
    "single",
    "healthy",
    "late",
    "crispy",
    "soup",
    "sweet",
    "cold",
    "grilled",
    "organic",
)
AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
CITIES = ("tier1", "tier2", "tier3")
DEVICES = ("ios", "android", "web")
DEVICE_SHARES = np.array([0.35, 0.55, 0.10])  # of the impressions; no two alike, so that one taken for another shows

# Effects, as (click, order given click): standard deviations on the scale of a logit.
QUALITY, APPETITE, DAYPART, DEVICE, WEEKEND = (0.45, 0.60), (0.40, 0.20), (0.25, 0.20), (0.10, 0.10), (0.10, 0.05)
DISTANCE = (-0.25, -0.20)  # farther is less
SOUGHT = (0.60, 0.80, 0.60)  # taste of the user x flavour of the item, flavour alone, taste alone
TASTE = (0.20, 0.95, 0.50)  # how much of that all scenarios share, a pair shares, a scenario has for its own
AGREEMENT = -0.50  # of a pair's taste between click and order: what one clicks is partly what one would not order
PRICE = np.array([[0.50, -0.10, -0.60], [-0.60, -0.20, 0.30]])  # [task, pair]; in a feed one looks at the dear dish
POPULARITY = np.array([[0.25, 0.10, -0.25], [0.10, 0.20, -0.15]])  # [task, pair]

DIMENSIONS = 3  # of tastes and flavours
BRANDS = 150
NEWCOMERS = 0.08  # share of users and items that join within the days of the log
HONESTY = 0.90  # share of stated cuisines that are the true ones
SILENCE = 0.06  # share of users who state none
ACTIVITY = 0.7  # standard deviation of the logarithm of how often a user comes
ZIPF = (25.0, 0.9)  # an item of rank r is shown in proportion to (r + first) ** -second
CHEAP_FIRST = -0.35  # the pair of flash_sale shows cheap items more often
HOUSES = 0.25  # how far the users of the scenarios differ
KILOMETRES = np.array([3.0, 3.5, 3.0, 4.0, 0.9, 2.5])  # typical distance of a kitchen by scenario,
SPRAWL = np.array([0.8, 1.0, 1.4])  # times this by city; around that,
SPREAD = 0.60  # the standard deviation of its logarithm
REACH = 0.64  # and within a scenario, over all cities

_PROBE = 40_000  # impressions of a scenario by which its rates are set


@dataclass(frozen=True, kw_only=True)
class People:
    """Users: latents [U, ...], what their profiles show, how often they come [S, U], since when [U] (microseconds)."""

    taste: Floats
    sensitivity: Floats
    appetite: Floats
    age: Integers
    city: Integers
    stated: Integers  # cuisine, -1: none stated
    visits: Floats
    since: Integers


@dataclass(frozen=True, kw_only=True)
class Menu:
    """Items: latents [I, ...], what they show, how often they are shown [S, I], since when [I] (microseconds)."""

    flavour: Floats
    cuisine: Integers
    brand: Integers
    tags: NDArray[np.bool_]  # [I, len(TAGS)]
    log_price: Floats
    dearness: Floats  # its distance from the mean, in standard deviations
    quality: Floats
    popularity: Floats
    shows: Floats
    since: Integers


@dataclass(frozen=True, kw_only=True)
class Town:
    """The truth: what adds up to the logit of a click and of an order given the click (the first axis: task)."""

    people: People
    menu: Menu
    appeal: Floats  # [2, S, I, D]: matrix of the scenario times flavour of the item
    daypart: Floats  # [2, 4, cuisines]
    device: Floats  # [2, devices]
    bias: Floats  # [2, S]


@dataclass(frozen=True, kw_only=True)
class Impressions:
    """What is shown to whom [N each]: codes, moment (microseconds), distance of the kitchen (km)."""

    scenario: Integers
    moment: Integers
    user: Integers
    item: Integers
    device: Integers
    distance: Floats


def found(size: Simulation, rates: Floats = RATES, sought: tuple[int, ...] = tuple(range(len(SCENARIOS)))) -> Town:
    """The town of this size and seed with these `rates` [2, S]; other rates change nothing but its bias.

    In each scenario one seeks what by the draw is sought in the scenario `sought` [S].
    """
    random = np.random.default_rng([size.seed, 0])
    menu = _menu(random, size)
    appeal = np.einsum("tsde,ie->tsid", _tastes(random)[:, sought], menu.flavour)
    unbiased = Town(
        people=_people(random, size),
        menu=menu,
        appeal=appeal,
        daypart=random.normal(size=(2, 4, len(CUISINES))),
        device=random.normal(size=(2, len(DEVICES))),
        bias=np.zeros((2, len(SCENARIOS))),
    )
    probes = (_probe(random, unbiased, size, scenario) for scenario in range(len(SCENARIOS)))
    bias = [_biases(unbiased, probe, *wanted) for probe, wanted in zip(probes, rates.T, strict=True)]
    return Town(**{**unbiased.__dict__, "bias": np.array(bias).T})


def _people(random: np.random.Generator, size: Simulation) -> People:
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
    stated = np.where(random.random(users) < HONESTY, cuisine, random.integers(0, len(CUISINES), users))
    often = np.exp(ACTIVITY * random.normal(size=users))
    return People(
        taste=_with_constant(taste),
        sensitivity=_standard(0.4 * city + random.normal(size=users)),
        appetite=random.normal(size=users),
        age=age,
        city=city,
        stated=np.where(random.random(users) < SILENCE, -1, stated),
        visits=often * np.exp(HOUSES * random.normal(size=(len(SCENARIOS), len(AGES))))[:, age],
        since=_since(random, users, size),
    )


def _menu(random: np.random.Generator, size: Simulation) -> Menu:
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
    shown = (ZIPF[0] + random.permutation(items)) ** -ZIPF[1]
    dearness = _standard(log_price)
    tilt = CHEAP_FIRST * (PAIR == 2)[:, None] * dearness
    return Menu(
        flavour=_with_constant(flavour),
        cuisine=cuisine,
        brand=brand,
        tags=tags,
        log_price=log_price,
        dearness=dearness,
        quality=random.normal(size=items),
        popularity=_standard(np.log(shown)),
        shows=shown * np.exp(tilt),
        since=_since(random, items, size),
    )


def _tastes(random: np.random.Generator) -> Floats:
    """Matrices [2, S, D + 1, D + 1] from taste to what is sought, with the planted likeness and contradiction.

    The last row and column meet the constants of taste and flavour: what everybody seeks, who seeks anything.
    """
    side = DIMENSIONS + 1
    shared, own = random.normal(size=(2, 1, side, side)), random.normal(size=(2, len(SCENARIOS), side, side))
    pairs = random.normal(size=(2, 3, side, side))
    pairs = np.sqrt(3 / 2) * (pairs - pairs.mean(axis=1, keepdims=True))  # they sum to zero and keep their variance
    pairs[1] = AGREEMENT * pairs[0] + np.sqrt(1 - AGREEMENT**2) * pairs[1]
    return _scaled(TASTE[0] * shared + TASTE[1] * pairs[:, PAIR] + TASTE[2] * own)


def _scaled(matrices: Floats) -> Floats:
    """The same matrices, each with its three parts as strong as SOUGHT says, whatever was drawn."""
    parts = np.zeros((3, DIMENSIONS + 1, DIMENSIONS + 1))
    parts[0, :-1, :-1], parts[1, -1, :-1], parts[2, :-1, -1] = 1, 1, 1
    return sum(
        strength * part * matrices / np.sqrt((part * matrices**2).sum(axis=(-2, -1), keepdims=True))
        for strength, part in zip(SOUGHT, parts, strict=True)
    )


def _probe(random: np.random.Generator, town: Town, size: Simulation, scenario: int) -> Impressions:
    midnight = clock.epoch(size.start) + DAY * random.integers(0, size.days, _PROBE)
    return show(random, town, np.full(_PROBE, scenario), midnight, np.tile(DEVICE_SHARES, (len(SCENARIOS), 1)))


def _biases(town: Town, probe: Impressions, clicks: float, orders: float) -> tuple[float, float]:
    """What the logits of the probe's scenario need so that its rates, per impression, are `clicks` and `orders`."""
    click, order = logits(town, probe)
    click_bias = _solve(click, np.ones(_PROBE), clicks)
    return click_bias, _solve(order, sigmoid(click + click_bias), orders)


def _solve(logit: Floats, weight: Floats, rate: float) -> float:
    """The bias for which mean(weight * sigmoid(logit + bias)) is `rate`, by halving."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        below = (weight * sigmoid(logit + middle)).mean() < rate
        low, high = (middle, high) if below else (low, middle)
    return low


def show(
    random: np.random.Generator, town: Town, scenario: Integers, midnight: int | Integers, devices: Floats
) -> Impressions:
    """Impressions in their scenario [N] within the day that begins at `midnight`; `devices` [S, devices] their shares.

    Nobody before joining, nothing before listing.
    """
    people, menu = town.people, town.menu
    moment = clock.within(random, midnight, scenario == SCENARIOS.index("late_night"))
    user = pick(random, people.visits, people.since, scenario, moment)
    item = pick(random, menu.shows, menu.since, scenario, moment)
    device = (random.random(len(scenario))[:, None] >= devices.cumsum(axis=1)[scenario, :-1]).sum(axis=1)
    typical = KILOMETRES[scenario] * SPRAWL[people.city[user]]
    return Impressions(
        scenario=scenario,
        moment=moment,
        user=user,
        item=item,
        device=device,
        distance=typical * np.exp(SPREAD * random.normal(size=len(scenario))),
    )


def pick(
    random: np.random.Generator, weights: Floats, since: Integers, scenario: Integers, moment: Integers
) -> Integers:
    """Places [N] drawn in proportion to `weights` [S, K] of the scenario, among those that are there `since` [K]."""
    picked = np.full(len(scenario), -1)
    reach = np.cumsum(weights, axis=1)
    while len(open_ := np.flatnonzero((picked < 0) | (since[picked] > moment))):
        for place in np.unique(scenario[open_]):
            rows = open_[scenario[open_] == place]
            drawn = np.searchsorted(reach[place], random.random(len(rows)) * reach[place, -1], side="right")
            picked[rows] = np.minimum(drawn, len(since) - 1)
    return picked


def logits(town: Town, shown: Impressions) -> Floats:
    """Logits [2, N]: of a click, and of an order given the click."""
    people, menu, pair = town.people, town.menu, PAIR[shown.scenario]
    user, item, device = shown.user, shown.item, shown.device
    daypart, weekend = clock.hour(shown.moment) // 6, clock.weekday(shown.moment) >= 5
    bargain, far = people.sensitivity[user] * menu.dearness[item], np.log(shown.distance) / REACH
    terms = [
        (
            APPETITE[task] * people.appetite[user]
            + QUALITY[task] * menu.quality[item]
            + DAYPART[task] * town.daypart[task, daypart, menu.cuisine[item]]
            + DEVICE[task] * town.device[task, device]
            + WEEKEND[task] * weekend
            + DISTANCE[task] * far
            + PRICE[task, pair] * bargain
            + POPULARITY[task, pair] * menu.popularity[item]
            + np.einsum("nd,nd->n", people.taste[user], town.appeal[task, shown.scenario, item])
            + town.bias[task, shown.scenario]
        )
        for task in (0, 1)
    ]
    return np.stack(terms)


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit))."""
    return 1 / (1 + np.exp(-logit))


def _since(random: np.random.Generator, count: int, size: Simulation) -> Integers:
    """Moments [count] of joining: up to two years before the first day, or for NEWCOMERS within the days.

    One in ten has always been there, so that somebody is there at any moment.
    """
    start = clock.epoch(size.start)
    before = start - 1 - random.integers(0, 730 * DAY, count)
    within = start + random.integers(0, size.days * DAY, count)
    new = random.random(count) < NEWCOMERS
    new[: max(1, count // 10)] = False
    return np.where(new, within, before)


def _vectors(random: np.random.Generator, names: tuple[str, ...]) -> Floats:
    return random.normal(size=(len(names), DIMENSIONS))


def _with_constant(vectors: Floats) -> Floats:
    """Vectors [N, D] as uncorrelated numbers of variance 1, and a constant 1 behind them: [N, D + 1]."""
    centred = vectors - vectors.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return np.hstack([white, np.ones((len(vectors), 1))])


def _uneven(random: np.random.Generator, count: int) -> Floats:
    return random.dirichlet(np.full(count, 8.0))


def _standard(values: Floats) -> Floats:
    return (values - values.mean(axis=0)) / values.std(axis=0)
