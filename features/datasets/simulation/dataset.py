"""A food-delivery platform that never was: six scenarios, click and order, and the true probabilities.

Whether an impression is clicked, and whether the click becomes an order, depends on

    appetite of the user, quality of the item     shared by all scenarios
    daypart x cuisine, device, weekend            shared
    distance of the kitchen                       shared: farther is less
    taste x matrix x flavour                      the matrix: a shared part + the pair's + the scenario's own
    price sensitivity x price                     the pair's, with signs that contradict each other
    popularity                                    the pair's, likewise

Scenarios come in pairs that want the same, a large one and a smaller one: home_feed and channel, search and nearby,
flash_sale and late_night. What draws clicks in one pair repels them in the others, and what is clicked is partly what
would not be ordered. Profiles are noisy views of the latents, and of one distance in a hundred the log knows nothing.
The numbers stand in town.py; change.py can plant a change from one day on.
Deterministic by seed; drawn in chunks, so that memory does not grow with the impressions.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from common.params import Dataset, Simulation
from features.datasets.log import Counts, Log, moment
from features.datasets.simulation import clock, platform, shifts
from features.datasets.simulation.platform import AGES, CITIES, CUISINES, DEVICES, SCENARIOS, TAGS
from features.datasets.simulation.shifts import Conditions
from features.schema import Column, DType, Kind, Role, Schema, Task

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
VOLUME = np.array([0.92, 0.90, 0.93, 0.97, 1.12, 1.20, 1.08])  # impressions by weekday
CHUNK = 100_000  # impressions
LOST = 0.01  # share of the distances that are not recorded


def declare(dataset: Dataset) -> Schema:
    """Context of an impression, profiles of users and items, click and order (order only after click)."""
    start = moment(dataset.simulation.start.isoformat())
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(
            name="timestamp",
            role=Role.TIMESTAMP,
            dtype=DType.TIMESTAMP,
            minimum=start,
            maximum=start + 86_400 * dataset.simulation.days,
        ),
        _id("user_id", Role.USER),
        _id("item_id", Role.ITEM),
        Column(name="scenario", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=SCENARIOS),
        Column(name="hour", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL, values=tuple(range(24))),
        _category("weekday", DAYS),
        _category("device", DEVICES),
        Column(
            name="distance_km",
            role=Role.FEATURE,
            dtype=DType.FLOAT32,
            kind=Kind.NUMERIC,
            nullable=True,
            minimum=0,
            log=True,
            desc="how far the kitchen is",
        ),
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, values=(0, 1)),
        Column(name="order", role=Role.LABEL, dtype=DType.INT8, values=(0, 1), desc="clicked and ordered"),
    )
    tasks = (Task(name="click"), Task(name="order", requires="click", desc="clicked and ordered"))
    tables = {"events": events, "users": _user_columns(), "items": _item_columns()}
    return Schema(name=dataset.name, scenarios=SCENARIOS, tasks=tasks, **tables)


def _user_columns() -> tuple[Column, ...]:
    return (
        _id("user_id", Role.USER),
        Column(name="registered_at", role=Role.KNOWN_AT, dtype=DType.TIMESTAMP),
        _category("age_band", AGES),
        _category("city_tier", CITIES),
        Column(name="price_level", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL, values=(1, 2, 3, 4, 5)),
        _category("preferred_cuisine", CUISINES, nullable=True),
        Column(name="orders_last_year", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.NUMERIC, minimum=0, log=True),
    )


def _item_columns() -> tuple[Column, ...]:
    return (
        _id("item_id", Role.ITEM),
        Column(name="listed_at", role=Role.KNOWN_AT, dtype=DType.TIMESTAMP),
        _category("cuisine", CUISINES),
        Column(name="brand", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(
            name="price", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, minimum=0.5, maximum=500, log=True
        ),
        Column(
            name="rating",
            role=Role.FEATURE,
            dtype=DType.FLOAT32,
            kind=Kind.NUMERIC,
            minimum=1,
            maximum=5,
            nullable=True,
            desc="mean stars; none yet for an item listed within the days of the log",
        ),
        Column(name="tags", role=Role.FEATURE, dtype=DType.STRING_LIST, kind=Kind.MULTI_VALUED, length=4),
    )


def _id(name: str, role: Role) -> Column:
    return Column(name=name, role=role, dtype=DType.INT64, kind=Kind.CATEGORICAL)


def _category(name: str, values: tuple[str, ...], *, nullable: bool = False) -> Column:
    return Column(
        name=name, role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=values, nullable=nullable
    )


def read(dataset: Dataset) -> Log:
    """The log that `dataset.simulation` asks for; its chunks carry p_click and p_order beside the labels.

    Raises ParameterError on a change that cannot be planted.
    """
    size, counts = dataset.simulation, Counts()
    usual, changed = shifts.conditions(size)
    place = usual.town
    random = np.random.default_rng([size.seed, 1])
    return Log(
        schema=declare(dataset),
        users=_users(random, place.people),
        items=_items(random, place.menu, size),
        chunks=lambda: _chunks(size, usual, changed, counts),
        counts=counts,
        rows=size.impressions,
    )


def _users(random: np.random.Generator, people: platform.People) -> pd.DataFrame:
    """Profiles: age and city as they are, the rest through noise."""
    felt = people.sensitivity + 0.4 * random.normal(size=len(people.sensitivity))
    orders = random.poisson(np.exp(2.5 + 0.8 * people.appetite + 0.2 * random.normal(size=len(people.appetite))))
    return pd.DataFrame(
        {
            "user_id": np.arange(1, len(felt) + 1),
            "registered_at": people.since.astype("datetime64[us]"),
            "age_band": pd.Categorical.from_codes(people.age, list(AGES)),
            "city_tier": pd.Categorical.from_codes(people.city, list(CITIES)),
            "price_level": 1 + np.digitize(felt, np.quantile(felt, [0.2, 0.4, 0.6, 0.8])),
            "preferred_cuisine": pd.Categorical.from_codes(people.stated, list(CUISINES)),
            "orders_last_year": orders,
        }
    )


def _items(random: np.random.Generator, menu: platform.Menu, size: Simulation) -> pd.DataFrame:
    stars = np.clip(4.0 + 0.45 * menu.quality + 0.2 * random.normal(size=len(menu.quality)), 1, 5).round(1)
    return pd.DataFrame(
        {
            "item_id": np.arange(1, len(stars) + 1),
            "listed_at": menu.since.astype("datetime64[us]"),
            "cuisine": pd.Categorical.from_codes(menu.cuisine, list(CUISINES)),
            "brand": menu.brand,
            "price": np.exp(menu.log_price).clip(0.5, 500).round(2).astype("float32"),
            "rating": np.where(menu.since < clock.epoch(size.start), stars, np.nan).astype("float32"),
            "tags": [[TAGS[tag] for tag in np.flatnonzero(row)] for row in menu.tags],
        }
    )


def _chunks(size: Simulation, usual: Conditions, changed: Conditions, counts: Counts) -> Iterator[pd.DataFrame]:
    weekday = (size.start.weekday() + np.arange(size.days)) % 7
    weight = VOLUME[weekday] / VOLUME[weekday].sum()
    volumes = np.random.default_rng([size.seed, 2]).multinomial(size.impressions, weight)
    for day, volume in enumerate(volumes):
        today = changed if shifts.applies(size, day) else usual
        for part in range(math.ceil(volume / CHUNK)):
            rows = int(min(CHUNK, volume - part * CHUNK))
            counts.rows_read += rows
            random = np.random.default_rng([size.seed, 3, day, part])
            yield _impressions(random, today, clock.epoch(size.start) + clock.DAY * day, rows)


def _impressions(random: np.random.Generator, today: Conditions, midnight: int, rows: int) -> pd.DataFrame:
    scenario = random.choice(len(SCENARIOS), rows, p=today.shares)
    shown = platform.show(random, today.town, scenario, midnight, today.devices)
    shown = shifts.redirected(random.spawn(1)[0], today, shown)
    click, order = platform.sigmoid(platform.logits(today.town, shown))
    clicked, ordered, lost = (random.random(rows) < chance for chance in (click, order, LOST))
    seen = shifts.recorded(today, shown)
    return pd.DataFrame(
        {
            "timestamp": seen.moment.astype("datetime64[us]"),
            "user_id": seen.user + 1,
            "item_id": seen.item + 1,
            "scenario": pd.Categorical.from_codes(seen.scenario, list(SCENARIOS)),
            "hour": clock.hour(seen.moment),
            "weekday": pd.Categorical.from_codes(clock.weekday(seen.moment), list(DAYS)),
            "device": pd.Categorical.from_codes(seen.device, list(DEVICES)),
            "distance_km": np.where(lost, np.nan, seen.distance).astype(np.float32),
            "click": clicked.astype(np.int8),
            "order": (clicked & ordered).astype(np.int8),
            "p_click": click,
            "p_order": click * order,
        }
    )
