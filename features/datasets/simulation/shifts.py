"""Shifts in the simulated log, one of a kind at a time, with which a drift report can be tested.

    none        nothing
    covariate   in one scenario, the share of web among the devices rises from a tenth to nearly half
    mix         the share of one scenario is tripled; within the scenarios nothing changes
    new_items   a fifth of the impressions go to items that are listed from that day on
    missing     distance_km is no longer recorded
    unit        distance_km is recorded in metres
    swapped     ios is recorded as android, android as ios
    conversion  in one scenario, orders given a click fall to two fifths
    taste       each scenario gets the taste matrix of one of another pair; the rates of clicks and orders stay
    season      at weekends, through the whole log: web doubled, a quarter fewer clicks in all scenarios

The true probabilities are those under the shift. All but `season` begin on `from_day`: the log before it, and the
rows that a shift does not concern, are bit for bit those of the log without it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from common.errors import ParameterError
from common.params import Simulation
from features.datasets.simulation import clock
from features.datasets.simulation.clock import Integers
from features.datasets.simulation.design import DEVICE_SHARES, RATES, SCENARIOS, SHARES
from features.datasets.simulation.platform import Impressions, Platform, build_platform, draw_indices
from features.datasets.simulation.population import Floats, Items

Fault = Literal["missing", "unit", "swapped"]

WEB_HEAVY_DEVICES = np.array([0.20, 0.35, 0.45])  # shares of the devices under `covariate`,
WEEKEND_DEVICES = np.array([0.30, 0.50, 0.20])  # and at the weekends of `season`
MIX_FACTOR = 3
NEW_ITEM_SHARE = 0.20  # of the impressions
NEW_ITEM_RATIO = 0.10  # of the items that the log has without them
CONVERSION_FACTOR = 0.40  # of the orders given a click
SWAPPED_TASTES = (1, 3, 4, 0, 5, 2)  # under `taste`: a large scenario gets the matrix of a large one
WEEKEND_CLICK_FACTOR = 0.70  # a weekend has more clicks by itself: this leaves a quarter fewer than other days have


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What holds on a day: the platform, shares of scenarios [S] and of devices in them [S, devices], a fault.

    `new_item_share` of the impressions go to items drawn in proportion to `launches` [S, items].
    """

    platform: Platform
    shares: Floats
    devices: Floats
    new_item_share: float = 0.0
    launches: Floats | None = None
    fault: Fault | None = None


def conditions(size: Simulation) -> tuple[Conditions, Conditions]:
    """The conditions of a usual day, and of the days on which the shift `applies`; raises ParameterError."""
    devices = np.tile(DEVICE_SHARES, (len(SCENARIOS), 1))
    usual = Conditions(platform=build_platform(size), shares=SHARES, devices=devices)
    return _SHIFTS[size.shift.kind](usual, size)


def applies(size: Simulation, day: int) -> bool:
    """Whether the shift holds on this day of the log, counted from 0."""
    if size.shift.kind == "season":
        return (size.start.weekday() + day) % 7 >= 5
    return size.shift.kind != "none" and day + 1 >= size.shift.from_day


def redirect_to_new_items(random: np.random.Generator, today: Conditions, shown: Impressions) -> Impressions:
    """The same impressions, of which `new_item_share` show a new item instead."""
    if today.launches is None:
        return shown
    redirected = np.flatnonzero(random.random(len(shown.item)) < today.new_item_share)
    item = shown.item.copy()
    since = today.platform.items.since
    item[redirected] = draw_indices(
        random, today.launches, since, shown.scenario[redirected], shown.timestamp[redirected]
    )
    return dataclasses.replace(shown, item=item)


def record(today: Conditions, shown: Impressions) -> Impressions:
    """The impressions as the log records them, with the fault of the day."""
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
    devices[SCENARIOS.index(size.shift.scenario)] = WEB_HEAVY_DEVICES
    return usual, dataclasses.replace(usual, devices=devices)


def _mix(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    scenario = SCENARIOS.index(size.shift.scenario)
    share = MIX_FACTOR * SHARES[scenario]
    if share >= 1:
        raise ParameterError(
            f"dataset.simulation.shift: mix triples the share of a scenario, but {size.shift.scenario} has "
            f"{SHARES[scenario]:.0%} of the impressions: set dataset.simulation.shift.scenario to a smaller one"
        )
    shares = SHARES * (1 - share) / (1 - SHARES[scenario])
    shares[scenario] = share
    return usual, dataclasses.replace(usual, shares=shares)


def _new_items(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    """New items exist from the first day, but none is shown before it is listed."""
    platform, template = _with_new_items(usual.platform, size)
    exposure = usual.platform.items.exposure
    launches = np.hstack([np.zeros_like(exposure), exposure[:, template]])
    usual = dataclasses.replace(usual, platform=platform)
    return usual, dataclasses.replace(usual, new_item_share=NEW_ITEM_SHARE, launches=launches)


def _with_new_items(platform: Platform, size: Simulation) -> tuple[Platform, Integers]:
    """The platform with new items after its own, and the index of the item that each of them copies [K].

    Cuisine, brand, tags and flavour are those of that item; price and quality are drawn for the new one.
    """
    random, items = np.random.default_rng([size.seed, 4]), platform.items
    template = random.integers(0, size.items, max(1, round(NEW_ITEM_RATIO * size.items)))
    difference = 0.5 * random.normal(size=len(template))
    names = [field.name for field in dataclasses.fields(items) if field.name != "exposure"]
    copied = {name: getattr(items, name)[template] for name in names}
    new = copied | {
        "log_price": copied["log_price"] + difference * items.log_price.std(),
        "standard_price": copied["standard_price"] + difference,
        "quality": random.normal(size=len(template)),
        "since": _draw_listing(random, len(template), size),
    }
    columns = {name: np.concatenate([getattr(items, name), values]) for name, values in new.items()}
    exposure = np.hstack([items.exposure, np.zeros((len(SCENARIOS), len(template)))])
    appeal = np.concatenate([platform.appeal, platform.appeal[:, :, template]], axis=2)
    return dataclasses.replace(platform, items=Items(**columns, exposure=exposure), appeal=appeal), template


def _draw_listing(random: np.random.Generator, count: int, size: Simulation) -> NDArray[np.int64]:
    """Midnights [K] of listing from the day of the shift on; the first item is listed on that day."""
    first = size.shift.from_day - 1
    day = random.integers(first, size.days, count)
    day[0] = first
    return clock.midnight_of(size.start) + clock.DAY * day


def _fault(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    return usual, dataclasses.replace(usual, fault=cast(Fault, size.shift.kind))


def _conversion(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    rates = RATES.copy()
    rates[1, SCENARIOS.index(size.shift.scenario)] *= CONVERSION_FACTOR
    return usual, dataclasses.replace(usual, platform=build_platform(size, rates))


def _taste(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    return usual, dataclasses.replace(usual, platform=build_platform(size, taste_of=SWAPPED_TASTES))


def _season(usual: Conditions, size: Simulation) -> tuple[Conditions, Conditions]:
    devices = np.tile(WEEKEND_DEVICES, (len(SCENARIOS), 1))
    platform = build_platform(size, WEEKEND_CLICK_FACTOR * RATES)
    return usual, dataclasses.replace(usual, platform=platform, devices=devices)


_SHIFTS: dict[str, Callable[[Conditions, Simulation], tuple[Conditions, Conditions]]] = {
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
