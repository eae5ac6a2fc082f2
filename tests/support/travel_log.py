"""A small travel log with known answers: when and how one leaves, where to, and via which stop.

A trip is one choice set: five locations to go to (`where`), four stops on the way (`via`), each a row. When and how are
recorded once a trip, on the row of the location that was chosen; elsewhere these labels are null.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.schema import Column, DType, Kind, Role, Schema, Task, TaskKind, View

PURPOSES = ("commute", "leisure", "errand")
WHEN, HOW = ("morning", "noon", "evening"), (10, 20, 30, 40)
USERS, LOCATIONS, GROUPS, KINDS = 30, 40, 3, 4
WHERE, VIA = 5, 4  # candidates
SURE = {"when": 0.70, "how": 0.64}  # the probability of the likeliest class: the best possible accuracy
PULL = 3.0  # of the kind of location that a group wants, on the scale of a logit
START = pd.Timestamp("2026-01-05")


def schema() -> Schema:
    """Two multi-class tasks and two choices; which trip a row belongs to is no feature."""
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP),
        Column(name="user_id", role=Role.USER, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="location_id", role=Role.ITEM, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="purpose", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=PURPOSES),
        Column(name="trip", role=Role.CHOICE_SET, dtype=DType.STRING),
        Column(name="weather", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL, minimum=0, maximum=3),
        Column(name="when", role=Role.LABEL, dtype=DType.STRING, nullable=True),
        Column(name="how", role=Role.LABEL, dtype=DType.INT64, nullable=True),
        Column(name="where", role=Role.LABEL, dtype=DType.INT8, nullable=True),
        Column(name="via", role=Role.LABEL, dtype=DType.INT8, nullable=True),
    )
    users = (
        Column(name="user_id", role=Role.USER, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="group", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL),
    )
    items = (
        Column(name="location_id", role=Role.ITEM, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="kind", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL),
    )
    tasks = (
        Task(name="when", kind=TaskKind.MULTI_CLASS, classes=WHEN),
        Task(name="how", kind=TaskKind.MULTI_CLASS, classes=HOW),
        Task(name="where", kind=TaskKind.CHOICE),
        Task(name="via", kind=TaskKind.CHOICE),
    )
    return Schema(name="travel", scenarios=PURPOSES, tasks=tasks, events=events, users=users, items=items)


def views() -> tuple[View, ...]:
    """The profiles."""
    declared = schema()
    return (
        View(name="user", keys=("user_id",), columns=declared.profile("users")),
        View(name="item", keys=("location_id",), columns=declared.profile("items")),
    )


def tables(*, trips: int, seed: int = 0) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Events, users and items of `schema()`, and the true probability of every output on every row (truth).

    In each purpose another class of `when` is likely for a group of users, another of `how` in a weather, and another
    kind of location attracts a group, as a stop not that as a destination. No location is exactly as good as another.
    """
    random = np.random.default_rng(seed)
    quality = np.random.default_rng(9).permutation(LOCATIONS) / LOCATIONS
    one = {
        "user_id": random.integers(0, USERS, trips),
        "purpose": random.choice(3, trips, p=[0.5, 0.3, 0.2]),
        "weather": random.integers(0, 4, trips),
        "trip": np.arange(trips),
    }
    group = one["user_id"] % GROUPS
    chance = {
        "when": likely(3, (group + one["purpose"]) % 3, SURE["when"]),
        "how": likely(4, (one["weather"] + one["purpose"]) % 4, SURE["how"]),
    }
    location = random.random((trips, LOCATIONS)).argsort(axis=1)[:, : WHERE + VIA]  # distinct within a trip
    wanted = (group + one["purpose"])[:, None] + 2 * (np.arange(WHERE + VIA) >= WHERE)
    attraction = PULL * (location % KINDS == wanted % KINDS) + quality[location]
    chance["where"], chance["via"] = softmax(attraction[:, :WHERE]), softmax(attraction[:, WHERE:])
    drawn = {task: draw(random, chances) for task, chances in chance.items()}
    return {"events": rows_of(one, location, drawn), **profiles()}, truth_of(chance)


def likely(classes: int, best: NDArray[np.int64], sure: float) -> NDArray[np.float64]:
    """Probabilities [N, classes]: `sure` for the best class, the rest shared evenly."""
    return np.where(np.arange(classes) == best[:, None], sure, (1 - sure) / (classes - 1))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every row."""
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def draw(random: np.random.Generator, chances: NDArray[np.float64]) -> NDArray[np.int64]:
    """A class for every row of chances."""
    return (random.random((len(chances), 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=chances.shape[1] - 1)


def rows_of(one: dict, location: NDArray[np.int64], drawn: dict) -> pd.DataFrame:
    """A row per trip and candidate, in order of time, a trip a minute."""
    trips, candidates = location.shape
    position = np.tile(np.arange(candidates), trips)
    trip = {name: np.repeat(values, candidates) for name, values in {**one, **drawn}.items()}
    is_where, chosen = position < WHERE, position == trip["where"]
    return pd.DataFrame(
        {
            "event_id": np.arange(trips * candidates),
            "timestamp": (START + pd.to_timedelta(trip["trip"] * 8, unit="min")).astype("datetime64[us]"),
            "user_id": trip["user_id"],
            "location_id": location.ravel(),
            "purpose": np.array(PURPOSES)[trip["purpose"]],
            "trip": [f"t{number}" for number in trip["trip"]],
            "weather": trip["weather"],
            "when": pd.Series(np.array(WHEN, dtype=object)[trip["when"]]).where(chosen, None),
            "how": pd.Series(np.array(HOW)[trip["how"]]).where(chosen).astype("Int64"),
            "where": pd.Series(chosen).where(is_where).astype("Int8"),
            "via": pd.Series(position - WHERE == trip["via"]).where(~is_where).astype("Int8"),
        }
    )


def profiles() -> dict[str, pd.DataFrame]:
    """Users by group, locations by kind."""
    return {
        "users": pd.DataFrame({"user_id": np.arange(USERS), "group": np.arange(USERS) % GROUPS}),
        "items": pd.DataFrame({"location_id": np.arange(LOCATIONS), "kind": np.arange(LOCATIONS) % KINDS}),
    }


def truth_of(chance: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """event_id and p_<output> of every row; a candidate has no probability in the other choice: 0."""
    trips, none = len(chance["where"]), np.zeros_like
    where = np.concatenate([chance["where"], none(chance["via"])], axis=1).ravel()
    via = np.concatenate([none(chance["where"]), chance["via"]], axis=1).ravel()
    classes = np.concatenate([chance["when"], chance["how"]], axis=1).repeat(WHERE + VIA, axis=0)
    values = np.concatenate([classes, where[:, None], via[:, None]], axis=1)
    truth = pd.DataFrame(values, columns=[f"p_{name}" for name in schema().output_names])
    truth.insert(0, "event_id", np.arange(trips * (WHERE + VIA)))
    return truth
