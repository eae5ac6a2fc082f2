"""The settings of a session view: how the features of a user's newest events are computed, in training and serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Session:
    """The session of a user as of a timestamp: the newest `events` events that are older than it by `lag_seconds`.

    Args:
        events: How many events of a user are counted at most, in windows of any length.
        recent_items: How many items the lists of recent items hold.
        windows_seconds: Lengths of the windows in which events are counted.
        lag_seconds: Events younger than this are not seen: so long the service may take to learn of one.
        outcome_delay_seconds: The outcome of an event is not seen before the event is seen for so long.
        compared_columns: Columns of the items; events are counted whose item has the same value as the candidate.
    """

    events: int
    recent_items: int
    windows_seconds: tuple[int, ...]
    lag_seconds: int
    outcome_delay_seconds: int
    compared_columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Session":
        """The settings that `dataclasses.asdict` turned into plain values."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        return cls(**values)

    @property
    def kept(self) -> int:
        """How many events of a user a store keeps: with a lag there are newer ones than those that are seen."""
        return self.events if self.lag_seconds == 0 else 2 * self.events
