"""Logs of the embedded simulation for the tests: small, with a size and a shift of their own."""

import pandas as pd

from common.params import Dataset, Shift, Simulation
from features.datasets.simulation import dataset as simulation

NO_SHIFT = Shift(kind="none", from_day=13, scenario="channel")


def dataset(**size: object) -> Dataset:
    """The parameters of a simulation of 150,000 impressions, or of the size given."""
    default = {
        "impressions": 150_000,
        "users": 3000,
        "items": 800,
        "days": 14,
        "start": "2026-01-05",
        "seed": 7,
        "watch_time": False,
        "shift": NO_SHIFT,
    }
    sizes = {**default, **size}
    return Dataset.model_construct(
        name="simulation",
        path=None,
        simulation=Simulation.model_construct(**{**sizes, "start": pd.Timestamp(sizes["start"]).date()}),
    )


def events(**size: object) -> pd.DataFrame:
    """All chunks of the log of that size as one frame."""
    frame = pd.concat(simulation.read(dataset(**size)).chunks(), ignore_index=True)
    return frame.assign(scenario=frame["scenario"].astype(str))
