"""The moving average of the weights against its definition."""

import pytest
import torch
from torch import nn

from models.training.weight_average import WeightAverage
from tests.support.training import small_hinet

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]


def test_the_average_is_the_weighted_mean_of_the_steps() -> None:
    """After each update the copy holds sum decay^(t - s) w_s / sum decay^(t - s); with decay 0 it holds the last."""
    for decay in (0.7, 0.0):
        network = nn.Linear(3, 2)
        average, weights = WeightAverage(network, decay), []
        for _ in range(5):
            with torch.no_grad():
                network.weight.add_(torch.randn(2, 3))
            average.update()
            weights.append(network.weight.detach().clone())
            shares = [decay ** (len(weights) - 1 - s) for s in range(len(weights))]
            expected = sum(share * weight for share, weight in zip(shares, weights, strict=True)) / sum(shares)
            torch.testing.assert_close(average.network.weight.data, expected)


def test_an_average_counted_on_the_device_is_the_average() -> None:
    """The steps as a tensor give the mean that the steps as a number give."""
    network = small_hinet()
    counted, plain = WeightAverage(network, 0.9, captured=True), WeightAverage(network, 0.9)
    for _ in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        counted.update()
        plain.update()
    for one, other in zip(counted.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)
