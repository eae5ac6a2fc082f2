"""The limit of the training benchmark: the matrix products of a step, each once."""

from collections.abc import Callable

import pytest

from benchmarks.training import matrix_products, workload
from models.networks.hinet import HiNet
from tests.support.small_shape import SHAPE

pytestmark = pytest.mark.unit


def test_the_limit_runs_every_product_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit runs the three products of each stacked layer once: experts, gates and towers."""
    ran: list[tuple[int, int]] = []

    def noted(_: int, inputs: int, outputs: int, __: int) -> list[Callable[[], None]]:
        return [lambda: ran.append((inputs, outputs))] * 3

    monkeypatch.setattr(matrix_products, "products_of_shape", noted)
    network = HiNet(*workload.arguments(SHAPE, 80))
    matrix_products.all_products(network, 16, 1)()
    experts, gates = 4 * 2 * 2 + (2 * 2 + 1) + 2, 4 + 2
    assert len(ran) == 3 * (experts + gates + 2)
    assert sum(i * o for i, o in ran) == 3 * sum(p.numel() for p in network.parameters() if p.dim() == 3)


def test_the_products_are_those_of_a_layer() -> None:
    """Of a layer's three products the first gives its outputs, the second its inputs' shape, the third its weight's."""
    shapes = [tuple(call().shape) for call in matrix_products.products_of_shape(16, 5, 3, 1)]
    assert shapes == [(16, 3), (16, 5), (5, 3)]
