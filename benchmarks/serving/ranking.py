"""Benchmark: one user ranked against many items, with the plain forward and with shares of the first layer.

Random rows and weights, of the shape of the simulation: six scenarios, two tasks, half of the columns the item's. Each
round scores the same request in every way, so that what else the machine does falls on all of them; where much else
runs, the fastest round says more than the median.
"""

import json as text
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from common import params, stage
from features.encoding.encoder import Batch
from models.inference.fused import FusedHiNet
from models.inference.partial_activations import ColumnIndices
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig

SCENARIOS, TASKS, WIDTH, FIELDS, NUMBERS, RECENT = 6, 2, 16, 20, 20, 20
ITEM = ColumnIndices(
    categorical=tuple(range(FIELDS // 2)), bags=(), numeric=tuple(range(NUMBERS // 2))
)  # column 0: its id
OTHER_VALUES = 50  # of a column that is no id
AUTHORS = {
    "sub_experts": 5,
    "expert_units": (128, 64),
    "task_experts": 2,
    "shared_experts": 2,
    "task_expert_units": (128, 64),
    "tower_units": (128, 64),
    "scenario_width": 64,
    "scenario_heads": True,
}
WARM_UP = 10  # rounds that do not count
PLAIN, KEPT, FRESH = "plain", "kept", "fresh"


def ranking(
    *,
    json: Path = Path("artifacts/ranking.json"),
    items: tuple[int, ...] = (200, 1000),
    threads: tuple[int, ...] = (1, 2),
    rounds: int = 200,
    users: int = 12_000,
    catalogue: int = 3_000,
) -> None:
    """Time `rounds` requests for each number of `items` and of `threads`; print the table and write it to `json`."""
    before, found = torch.get_num_threads(), []
    sizes = {"params.yaml": params.load().train.hinet.model_dump(), "the authors'": AUTHORS}
    for (name, units), wanted, running in product(sizes.items(), items, threads):
        torch.set_num_threads(running)
        request = Request(units, users=users, catalogue=catalogue, items=wanted)
        found.append({"network": name, "items": wanted, "threads": running, **request.measure(rounds)})
    torch.set_num_threads(before)
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(text.dumps({"rounds": rounds, "torch": torch.__version__, "requests": found}, indent=1) + "\n")
    show(found)


class Request:
    """A request, and the ways to answer it: each gives the logits [N, T] from the encoded rows."""

    def __init__(self, units: dict[str, Any], *, users: int, catalogue: int, items: int) -> None:
        torch.manual_seed(1)
        tables = (catalogue, users, OTHER_VALUES)
        columns = (0, *[2] * (FIELDS // 2 - 1), 1, *[2] * (FIELDS - FIELDS // 2 - 1))
        data = DataSpec(
            table_rows=tables,
            categorical_tables=columns,
            bag_tables=(0,),
            bag_lengths=(RECENT,),
            numeric=NUMBERS,
            scenarios=SCENARIOS,
            task_outputs=(1,) * TASKS,
        )
        self.network = HiNet(data, HiNetConfig(embedding_width=WIDTH, **units)).eval()
        _enlarge(self.network)
        self.fused = FusedHiNet(self.network, ITEM)
        random = np.random.default_rng(1)
        every = _rows(random, np.array([tables[table] for table in columns]), catalogue)
        every.categorical[:, 0] = np.arange(catalogue)
        self.items = self.fused.items(every)
        picked = random.permutation(catalogue)[:items]
        self.picked = torch.from_numpy(picked)
        self.batch = Batch(every.categorical[picked], every.bags[picked], every.numeric[picked], every.scenario[picked])

    @torch.inference_mode()
    def plain(self) -> Tensor:
        """The network's forward of N whole rows."""
        batch = self.batch
        inputs = (torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario))
        logits: Tensor = self.network(*inputs)
        return logits

    def kept(self) -> Tensor:
        """The user's share, and the items' as they were kept."""
        return self.fused.rank(self.fused.user(self.batch), self.items, 0, self.picked)

    def fresh(self) -> Tensor:
        """The user's share, and the items' made in the request."""
        return self.fused.rank_rows(self.fused.user(self.batch), self.batch, 0)

    def measure(self, rounds: int) -> dict[str, Any]:
        """Milliseconds of each way, how many times as fast as the plain one it is, and how far off at most."""
        ways = {PLAIN: self.plain, KEPT: self.kept, FRESH: self.fresh}
        expected, taken = self.plain(), _timed(ways, rounds)
        found: dict[str, Any] = {
            name: {way: round(pick(times) * 1e3, 4) for way, times in taken.items()}
            for name, pick in (("median", median), ("fastest", min))
        }
        return found | {
            "ratio": {name: _ratio(times) for name, times in found.items()},
            "largest_difference": {way: float((ways[way]() - expected).abs().max()) for way in (KEPT, FRESH)},
            "bytes_per_item": self.fused.bytes_per_item,
        }


def show(found: list[dict[str, Any]]) -> None:
    """Print a line per request."""
    table = Table(
        "network",
        "items",
        "threads",
        *(f"{way} ms" for way in (PLAIN, KEPT, FRESH)),
        KEPT,
        FRESH,
        "off by",
        title="median (fastest) of the rounds; how many times as fast as the plain forward",
    )
    for one in found:
        times, ratio = (one["median"], one["fastest"]), one["ratio"]
        table.add_row(
            one["network"],
            f"{one['items']:,}",
            str(one["threads"]),
            *(f"{times[0][way]:.2f} ({times[1][way]:.2f})" for way in (PLAIN, KEPT, FRESH)),
            *(f"{ratio['median'][way]:.2f} ({ratio['fastest'][way]:.2f})" for way in (KEPT, FRESH)),
            f"{max(one['largest_difference'].values()):.0e}",
        )
    Console(width=120).print(table)


def _ratio(times: dict[str, float]) -> dict[str, float]:
    """How many times as fast as the plain forward."""
    return {way: round(times[PLAIN] / times[way], 3) for way in (KEPT, FRESH)}


def _enlarge(network: HiNet) -> None:
    """Weights that keep a row's size from layer to layer: logits like trained ones, so that parity counts."""
    with torch.no_grad():
        for weight in (parameter for parameter in network.parameters() if parameter.dim() == 3):
            weight.normal_(std=(2 / weight.shape[2]) ** 0.5)


def _rows(random: np.random.Generator, values: np.ndarray, count: int) -> Batch:
    """Rows of one user in scenario 0; the item's columns differ."""
    categorical = random.integers(0, values, (count, FIELDS)).astype(np.int32)
    numeric = random.normal(size=(count, NUMBERS)).astype(np.float32)
    categorical[:, FIELDS // 2 :], numeric[:, NUMBERS // 2 :] = (
        categorical[0, FIELDS // 2 :],
        numeric[0, NUMBERS // 2 :],
    )
    bags = np.tile(random.integers(0, values[0], RECENT).astype(np.int32), (count, 1))
    return Batch(categorical, bags, numeric, np.zeros(count, np.int32))


def _timed(ways: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every way in every round, one way after the other."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(-WARM_UP, rounds):
        for way, answer in ways.items():
            started = time.perf_counter()
            answer()
            times[way] += [time.perf_counter() - started] if turn >= 0 else []
    return times


if __name__ == "__main__":
    stage.run(ranking)
