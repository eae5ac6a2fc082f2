"""The scale of a regression target: what a network's output stands for, in the units of the label.

A network is trained on the squared error of the label in standard deviations. Whatever the distribution of the label,
the output that minimises it is the conditional mean, so the prediction is an expected value. Standardised, the loss of
a task is of the size of a cross entropy, and its weight does not depend on the unit of its label.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class TargetScale(NamedTuple):
    """Mean and standard deviation of the observed training labels, and the least value that may be predicted, or None.

    With a floor the prediction is floor + softplus(output) x unit, which lies above it and keeps the order of the
    outputs; without one it is mean + deviation x output. An output of 0 stands for the mean.
    """

    mean: float
    deviation: float
    floor: float | None

    @property
    def unit(self) -> float:
        """What a softplus is multiplied by."""
        return (self.mean - (self.floor or 0.0)) / math.log(2)

    def expected(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Outputs of the network -> expected values in the units of the label."""
        outputs = outputs.astype(np.float64)
        values: NDArray[np.float64]
        if self.floor is None:
            values = self.mean + self.deviation * outputs
        else:
            values = self.floor + self.unit * np.logaddexp(0, outputs)
        return values

    def standardised(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values in the units of the label -> standard deviations from the mean."""
        scaled: NDArray[np.float64] = (values - self.mean) / self.deviation
        return scaled
