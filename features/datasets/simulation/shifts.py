"""Changes planted in the simulation, one of a kind at a time, so that a drift report can be proven to find them.

    none        nothing
    covariate   in one scenario, web goes from a tenth of the devices to nearly half
    mix         the share of one scenario is tripled; within the scenarios nothing changes
    new_items   a fifth of the impressions go to items that are listed from that day on
    missing     distance_km is not recorded any more
    unit        distance_km is recorded in metres
    swapped     ios is recorded as android, android as ios
    conversion  in one scenario, orders given a click fall to two fifths
    taste       in each scenario one seeks what was sought in one of another pair; as many click and order as before
    season      at weekends, through the whole log: web doubled, a quarter less clicks in all scenarios

The truth is that of the changed world. All but `season` begin on `from_day`: before it the log is, to the last bit,
the one without them; and the rows that a change does not touch stay as they were.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from common.errors import ParameterError
from common.params import Simulation
from features.datasets.simulation import clock, platform
from features.datasets.simulation.platform import DEVICE_SHARES, RATES, SCENARIOS, SHARES, Floats, Impressions, Town

Fault = Literal["missing", "unit", "swapped"]

MOVED = np.array([0.20, 0.35, 0.45])  # mix of the devices under `covariate`,
WEEKEND = np.array([0.30, 0.50, 0.20])  # and at the weekends of `season`
TRIPLED = 3
FRESH = 0.20  # share of the impressions that goes to new items
LAUNCHED = 0.10  # new items, of all that the log has without them
KEPT = 0.40  # of the orders given a click
SOUGHT_NOW = (1, 3, 4, 0, 5, 2)  # under `taste`: whose taste each scenario has, a large one that of a large one
IDLE = 0.70  # of the clicks; as a weekend has more by itself, a quarter less than on other days


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What holds on a day: shares of the scenarios [S] and of devices in them [S, devices], what is recorded wrongly.

    `fresh` is the share of the impressions that goes to items as `launches` [S, items] weighs them.
    """

    platform: Town
    shares: Floats
    devices: Floats
    fresh: float = 0.0
    launches: Floats | None = None
    fault: Fault | None = None


def conditions(size: Simulation) -> tuple[Conditions, Conditions]:
    """What holds on a usual day, and on the days to which the change `applies`; raises ParameterError."""
    usual = Conditions(town=platform.found(size), shares=SHARES, devices=np.tile(DEVICE_SHARES, (len(SCENARIOS), 1)))
    return _PLANTED[size.shift.kind](usual, size)


def applies(size: Simulation, day: int) -> bool:
    """Whether the change holds on this day of the log, counted from 0."""
    if size.shift.kind == "season":
        return (size.start.weekday() + day) % 7 >= 5
    return size.shift.kind != "none" and day + 1 >= size.shift.from_day


def redirected(random: np.random.Generator, today: Conditions, shown: Impressions) -> Impressions:
    """The same impressions, less a share that goes to new items instead."""
    if today.launches is None:
        return shown
    fresh = np.flatnonzero(random.random(len(shown.item)) < today.fresh)
    item = shown.item.copy()
    since = today.town.menu.since
    item[fresh] = platform.pick(random, today.launches, since, shown.scenario[fresh], shown.moment[fresh])
    return dataclasses.replace(shown, item=item)


def recorded(today: Conditions, shown: Impressions) -> Impressions:
    """What the log says of the impressions."""
    if today.fault == "missing":
        return dataclasses.replace(shown, distance=np.full(len(shown.distance), np.nan))
    if today.fault == "unit":
        return dataclasses.replace(shown, distance=1000 * shown.distance)
    if today.fault == "swapped":
        return dataclasses.replace(shown, device=np.array([1, 0, 2])[shown.device])
    return shown


def _none(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    return usual, usual


def _covariate(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    devices = usual.devices.copy()
    devices[SCENARIOS.index(size.shift.scenario)] = MOVED
    return usual, dataclasses.replace(usual, devices=devices)


def _mix(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    place = SCENARIOS.index(size.shift.scenario)
    share = TRIPLED * SHARES[place]
    if share >= 1:
        raise ParameterError(
            f"dataset.simulation.shift: mix triples the share of a scenario, but {size.shift.scenario} has "
            f"{SHARES[place]:.0%} of the impressions: set dataset.simulation.shift.scenario to a smaller one"
        )
    shares = SHARES * (1 - share) / (1 - SHARES[place])
    shares[place] = share
    return usual, dataclasses.replace(usual, shares=shares)


def _new_items(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    """New items are on the menu from the first day, but before theirs none is shown."""
    place, model = _with_launches(usual.town, size)
    launches = np.hstack([np.zeros_like(usual.town.menu.shows), usual.town.menu.shows[:, model]])
    usual = dataclasses.replace(usual, town=place)
    return usual, dataclasses.replace(usual, fresh=FRESH, launches=launches)


def _with_launches(place: Town, size: Simulation) -> tuple[Town, np.ndarray]:
    """The town with new items behind its own, and the item that each of them is made after [K].

    Cuisine, brand, tags and flavour are those of that item; price and quality are the new one's.
    """
    random, menu = np.random.default_rng([size.seed, 4]), place.menu
    model = random.integers(0, size.items, max(1, round(LAUNCHED * size.items)))
    own = 0.5 * random.normal(size=len(model))
    alike = {
        field.name: getattr(menu, field.name)[model] for field in dataclasses.fields(menu) if field.name != "shows"
    }
    new = alike | {
        "log_price": alike["log_price"] + own * menu.log_price.std(),
        "dearness": alike["dearness"] + own,
        "quality": random.normal(size=len(model)),
        "since": _listed(random, len(model), size),
    }
    parts = {name: np.concatenate([getattr(menu, name), values]) for name, values in new.items()}
    shows = np.hstack([menu.shows, np.zeros((len(SCENARIOS), len(model)))])
    appeal = np.concatenate([place.appeal, place.appeal[:, :, model]], axis=2)
    return dataclasses.replace(place, menu=platform.Menu(**parts, shows=shows), appeal=appeal), model


def _listed(random: np.random.Generator, count: int, size: Simulation) -> platform.Integers:
    """Midnights [K] of listing from the day of the change on; the first item is there at once."""
    first = size.shift.from_day - 1
    day = random.integers(first, size.days, count)
    day[0] = first
    return clock.epoch(size.start) + clock.DAY * day


def _fault(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    return usual, dataclasses.replace(usual, fault=cast(Fault, size.shift.kind))


def _conversion(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    rates = RATES.copy()
    rates[1, SCENARIOS.index(size.shift.scenario)] *= KEPT
    return usual, dataclasses.replace(usual, town=platform.found(size, rates))


def _taste(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    return usual, dataclasses.replace(usual, town=platform.found(size, sought=SOUGHT_NOW))


def _season(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    devices = np.tile(WEEKEND, (len(SCENARIOS), 1))
    return usual, dataclasses.replace(usual, town=platform.found(size, IDLE * RATES), devices=devices)


_PLANTED: dict[str, Callable[[Conditions, Simulation], tuple[Conditions, Conditions]]] = {
    "none": _none,
    "covariate": _covariate,
    "mix": _mix,
    "new_items": _new_items,
    "missing": _fault,
    "unit": _fault,
    "swapped": _fault,
    "conversion": _conversion,
    "taste": _taste,
    "season": _season,
}
