"""Calibration: a map of the logits of each cell, after which a probability is the share that comes true.

A cell is a scenario and a binary task. A map is strictly increasing, so that the order within a cell, and its AUC, stay
as they are; a score, which adds up the probabilities of several tasks, changes.

    platt      a * logit + b, a > 0
    isotonic   straight lines between knots, beyond the first and the last one the logit plus a constant

The maps are fitted by models/training/calibrate.py. Letters: N rows, O outputs of a network, K knots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REASON = "reason"  # of a cell without a map: why it has none


@dataclass(frozen=True)
class Platt:
    """A straight line, as J. Platt, Probabilistic outputs for support vector machines, 1999.

    >>> Platt(a=2.0, b=1.0)(np.array([0.0, 1.5]))
    array([1., 4.])
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        """Raises ValueError on a line that does not rise."""
        if not (0 < self.a < np.inf and np.isfinite(self.b)):
            raise ValueError(f"expected a > 0 and a finite b, found a {self.a} and b {self.b}")

    def __call__(self, logits: Floats) -> Floats:
        """Logits [N] -> calibrated logits [N]."""
        return self.a * logits + self.b


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots (x, y), both logits.

    >>> Isotonic(x=[0.0, 1.0], y=[0.0, 3.0])(np.array([-1.0, 0.5, 2.0]))
    array([-1. ,  1.5,  4. ])
    """

    x: Sequence[float]  # [K]
    y: Sequence[float]  # [K]

    def __post_init__(self) -> None:
        """Raises ValueError on knots that do not rise."""
        rise = np.diff(np.array([self.x, self.y], np.float64))  # [2, K - 1]; ValueError where the lengths differ
        if not (len(self.x) and (rise > 0).all() and np.isfinite([*self.x, *self.y]).all()):
            raise ValueError(f"expected finite knots of which x and y rise, found x {self.x} and y {self.y}")

    def __call__(self, logits: Floats) -> Floats:
        """Logits [N] -> calibrated logits [N]."""
        inside = np.clip(logits, self.x[0], self.x[-1])
        calibrated: Floats = np.interp(inside, self.x, self.y) + (logits - inside)
        return calibrated


KINDS = {"platt": Platt, "isotonic": Isotonic}


class Calibration:
    """The maps of a model, as calibration.json holds them: the `document`.

    Its `cells` are by "scenario/task": the arguments of a map of the `kind`, or the `reason` why there is none. A
    cell without a map keeps the logits of the network.
    """

    def __init__(self, document: Mapping[str, Any], *, scenarios: Sequence[str], outputs: Sequence[str]) -> None:
        """`outputs` are the names of the logits; raises ValueError where the document does not fit them."""
        self.document = document
        try:
            make = KINDS[document["kind"]]
            maps = {
                tuple(name.rsplit("/", 1)): make(**cell)
                for name, cell in document["cells"].items()
                if REASON not in cell
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if other := set(maps) - {(scenario, output) for scenario in scenarios for output in outputs}:
            raise ValueError(f"it has cells that the model has not: {sorted(other)}")
        self.maps = [  # by scenario: the maps by output
            {column: maps[scenario, output] for column, output in enumerate(outputs) if (scenario, output) in maps}
            for scenario in scenarios
        ]

    def of_scenario(self, logits: NDArray[Any], scenario: int) -> Floats:
        """Logits [N, O] of rows of one scenario -> calibrated logits [N, O]."""
        calibrated = logits.astype(np.float64)  # a copy
        for column, calibrate in self.maps[scenario].items():
            calibrated[:, column] = calibrate(calibrated[:, column])
        return calibrated

    def of_rows(self, logits: NDArray[Any], scenario: NDArray[Any]) -> Floats:
        """Logits [N, O] of rows of the scenarios [N] -> calibrated logits [N, O]."""
        calibrated, scenario = logits.astype(np.float64), np.asarray(scenario)
        for code in range(len(self.maps)):
            own = scenario == code
            calibrated[own] = self.of_scenario(calibrated[own], code)
        return calibrated

    @property
    def by_cell(self) -> dict[str, str]:
        """By "scenario/task" the kind of its map, or why there is none."""
        kind, cells = self.document["kind"], self.document["cells"]
        return {name: f"none: {cell[REASON]}" if REASON in cell else kind for name, cell in cells.items()}
