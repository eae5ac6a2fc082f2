"""A food-delivery platform that is simulated: six scenarios, click and order, and the true probabilities.

Whether an impression is clicked, and whether the click becomes an order, depends on

    appetite of the user, quality of the item     shared by all scenarios
    daypart x cuisine, device, weekend            shared
    distance of the kitchen                       shared: a longer distance lowers both
    taste x matrix x flavour                      the matrix: a shared part + the pair's + the scenario's own
    price sensitivity x price                     the pair's, with opposite signs between pairs and tasks
    popularity                                    the pair's, likewise

Scenarios come in pairs with similar preferences, a large one and a smaller one: home_feed and channel, search and
nearby, flash_sale and late_night. An item that attracts clicks in one pair gets fewer in the others, and an item that
attracts clicks is ordered less often after one. Profiles are noisy views of the latents, and one distance in a hundred
is missing in the log. With `image_length` items have a vector, too, from which flavour and quality can be read; it
changes nothing else. With `position_effect` popular items are shown on top, and what is on top is clicked more often;
the true probabilities are those of an average position. `session_effect`: see visits.py. The numbers are in design.py;
shifts.py can change the platform from one day on.
Deterministic by seed; drawn in chunks, so that memory does not grow with the impressions.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.params import Dataset, Simulation
from features.datasets.log import Counts, Log, seconds_of
from features.datasets.simulation import clock, shifts, visits
from features.datasets.simulation.clock import Integers
from features.datasets.simulation.design import (
    AGES,
    CITIES,
    CUISINES,
    DEVICES,
    IMAGE_MISSING_RATE,
    IMAGE_NOISE,
    POSITIONS,
    SCENARIOS,
    TAGS,
)
from features.datasets.simulation.platform import (
    Impressions,
    draw_impressions,
    draw_watch_times,
    logits,
    sigmoid,
    watch_means,
)
from features.datasets.simulation.population import Floats, Items, Users
from features.datasets.simulation.positions import draw_positions, position_effects
from features.datasets.simulation.shifts import Conditions
from features.schema import Column, DType, Kind, Role, Schema, Task, TaskKind

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
VOLUME = np.array([0.92, 0.90, 0.93, 0.97, 1.12, 1.20, 1.08])  # impressions by weekday
CHUNK = 100_000  # impressions
WATCH = "watch_seconds"  # the regression task, with dataset.simulation.watch_time
MISSING_DISTANCE_RATE = 0.01  # share of the distances that are not recorded


def declare(dataset: Dataset) -> Schema:
    """Context of an impression, profiles of users and items, click and order (order only after click)."""
    start = seconds_of(dataset.simulation.start.isoformat())
    position = Column(name="position", role=Role.POSITION, dtype=DType.INT64, minimum=1, maximum=POSITIONS)
    events: tuple[Column, ...] = (
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
        *([position] if dataset.simulation.position_effect else []),
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, values=(0, 1)),
        Column(name="order", role=Role.LABEL, dtype=DType.INT8, values=(0, 1), desc="clicked and ordered"),
    )
    tasks: tuple[Task, ...] = (Task(name="click"), Task(name="order", requires="click", desc="clicked and ordered"))
    if dataset.simulation.watch_time:
        events += (Column(name=WATCH, role=Role.LABEL, dtype=DType.FLOAT32, minimum=0, desc="of the item's video"),)
        tasks += (Task(name=WATCH, kind=TaskKind.REGRESSION, desc="how long the item's video is watched"),)
    tables = {"events": events, "users": _user_columns(), "items": _item_columns(dataset.simulation)}
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


def _item_columns(size: Simulation) -> tuple[Column, ...]:
    image = Column(
        name="image",
        role=Role.FEATURE,
        dtype=DType.FLOAT32_LIST,
        kind=Kind.VECTOR,
        length=size.image_length or 1,
        nullable=True,
        desc="embedding of the picture; some items have none",
    )
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
        *([image] if size.image_length else []),
    )


def _id(name: str, role: Role) -> Column:
    return Column(name=name, role=role, dtype=DType.INT64, kind=Kind.CATEGORICAL)


def _category(name: str, values: tuple[str, ...], *, nullable: bool = False) -> Column:
    return Column(
        name=name, role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=values, nullable=nullable
    )


def read(dataset: Dataset) -> Log:
    """The log that `dataset.simulation` describes.

    Its chunks hold p_click and p_order in addition to the labels, and with `watch_time` the expected one. Raises
    ParameterError where the shift is impossible.
    """
    size, counts = dataset.simulation, Counts()
    usual, shifted = shifts.conditions(size)
    random = np.random.default_rng([size.seed, 1])
    return Log(
        schema=declare(dataset),
        users=_users(random, usual.platform.users),
        items=_items(random, usual.platform.items, size),
        chunks=lambda: _chunks(size, usual, shifted, counts),
        counts=counts,
        rows=size.impressions,
    )


def _users(random: np.random.Generator, users: Users) -> pd.DataFrame:
    """Profiles: age and city exact, the other columns with noise."""
    observed = users.sensitivity + 0.4 * random.normal(size=len(users.sensitivity))
    orders = random.poisson(np.exp(2.5 + 0.8 * users.appetite + 0.2 * random.normal(size=len(users.appetite))))
    return pd.DataFrame(
        {
            "user_id": np.arange(1, len(observed) + 1),
            "registered_at": users.since.astype("datetime64[us]"),
            "age_band": _categorical(users.age, AGES),
            "city_tier": _categorical(users.city, CITIES),
            "price_level": 1 + np.digitize(observed, np.quantile(observed, [0.2, 0.4, 0.6, 0.8])),
            "preferred_cuisine": _categorical(users.stated, CUISINES),
            "orders_last_year": orders,
        }
    )


def _items(random: np.random.Generator, items: Items, size: Simulation) -> pd.DataFrame:
    stars = np.clip(4.0 + 0.45 * items.quality + 0.2 * random.normal(size=len(items.quality)), 1, 5).round(1)
    return pd.DataFrame(
        {
            "item_id": np.arange(1, len(stars) + 1),
            "listed_at": items.since.astype("datetime64[us]"),
            "cuisine": _categorical(items.cuisine, CUISINES),
            "brand": items.brand,
            "price": np.exp(items.log_price).clip(0.5, 500).round(2).astype("float32"),
            "rating": np.where(items.since < clock.midnight_of(size.start), stars, np.nan).astype("float32"),
            "tags": [[TAGS[tag] for tag in np.flatnonzero(row)] for row in items.tags],
            **({"image": _images(items, size)} if size.image_length else {}),
        }
    )


def _images(items: Items, size: Simulation) -> list[NDArray[np.float32] | None]:
    """The image of each item: its flavour and quality times a matrix, a constant vector, and noise."""
    random = np.random.default_rng([size.seed, 5])
    latents = np.column_stack([items.flavour[:, :-1], items.quality])  # [I, D + 1]
    seen = latents @ random.normal(size=(latents.shape[1], size.image_length))
    constant, noise = (random.normal(size=shape) for shape in (size.image_length, seen.shape))
    images = (seen + constant + IMAGE_NOISE * noise).astype(np.float32)
    missing = random.random(len(images)) < IMAGE_MISSING_RATE
    return [None if absent else image for absent, image in zip(missing.tolist(), images, strict=True)]


def _categorical(codes: Integers, names: tuple[str, ...]) -> "pd.Categorical[str]":
    """The names of `codes`; -1 is a missing value."""
    return pd.Categorical.from_codes(codes, pd.Index(list(names)))


def _chunks(size: Simulation, usual: Conditions, shifted: Conditions, counts: Counts) -> Iterator[pd.DataFrame]:
    weekday = (size.start.weekday() + np.arange(size.days)) % 7
    weight = VOLUME[weekday] / VOLUME[weekday].sum()
    volumes = np.random.default_rng([size.seed, 2]).multinomial(size.impressions, weight)
    for day, volume in enumerate(volumes):
        today = shifted if shifts.applies(size, day) else usual
        for part in range(math.ceil(volume / CHUNK)):
            rows = int(min(CHUNK, volume - part * CHUNK))
            counts.rows_read += rows
            random = np.random.default_rng([size.seed, 3, day, part])
            midnight = clock.midnight_of(size.start) + clock.DAY * day
            yield _impressions(random, today, midnight, rows, size)


def _impressions(
    random: np.random.Generator, today: Conditions, midnight: int, rows: int, size: Simulation
) -> pd.DataFrame:
    scenario = random.choice(len(SCENARIOS), rows, p=today.shares)
    shown = draw_impressions(random, today.platform, scenario, midnight, today.devices)
    shown = shifts.redirect_to_new_items(random.spawn(1)[0], today, shown)
    if size.session_effect:
        shown = visits.gathered(random.spawn(1)[0], shown, midnight)
    logit = logits(today.platform, shown)
    positions = draw_positions(random.spawn(1)[0], today.platform, shown) if size.position_effect else None
    offset = 0.0 if positions is None else position_effects(positions, size.position_effect)
    drawn = random.random((3, rows))
    if size.session_effect:
        logit[0] += visits.visit_effects(today.platform, shown, logit[0] + offset, drawn[0], size.session_effect)
    click, order = sigmoid(logit)
    rates = (sigmoid(logit[0] + offset), order, MISSING_DISTANCE_RATE)
    clicked, ordered, missing = (numbers < rate for numbers, rate in zip(drawn, rates, strict=True))
    recorded = shifts.record(today, shown)
    watched = _watched(random.spawn(1)[0], today, shown, logit[0]) if size.watch_time else {}
    return pd.DataFrame(
        {
            "timestamp": recorded.timestamp.astype("datetime64[us]"),
            "user_id": recorded.user + 1,
            "item_id": recorded.item + 1,
            "scenario": _categorical(recorded.scenario, SCENARIOS),
            "hour": clock.hour(recorded.timestamp),
            "weekday": _categorical(clock.weekday(recorded.timestamp), DAYS),
            "device": _categorical(recorded.device, DEVICES),
            "distance_km": np.where(missing, np.nan, recorded.distance).astype(np.float32),
            **({} if positions is None else {"position": positions}),
            "click": clicked.astype(np.int8),
            "order": (clicked & ordered).astype(np.int8),
            "p_click": click,
            "p_order": click * order,
            **watched,
        }
    )


def _watched(
    random: np.random.Generator, today: Conditions, shown: Impressions, click: Floats
) -> dict[str, Floats | NDArray[np.float32]]:
    """Watch times and their means: drawn by themselves, so that all else is as without them."""
    means = watch_means(today.platform, shown, click)
    return {WATCH: draw_watch_times(random, means).astype(np.float32), f"p_{WATCH}": means}
