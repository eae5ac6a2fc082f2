"""The modes of scoring a request, timed on random rows and weights: see benchmarks/serving/ranking.py."""

import json as text
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from common import params
from common.files import write_text
from features.encoding.encoder import Batch
from models.inference.exported import COMPILED, Program, Rows, compile_program, export_network, load_compiled
from models.inference.fused_view import fused_hinet
from models.inference.partial_activations import ColumnIndices
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig

SCENARIOS, TASKS, WIDTH, FIELDS, NUMBERS, RECENT = 6, 2, 16, 20, 20, 20
ITEM = ColumnIndices(  # the first half of the columns; column 0 is the item's id
    categorical=tuple(range(FIELDS // 2)), bags=(), numeric=tuple(range(NUMBERS // 2))
)
OTHER_VALUES = 50  # of a column that is no id
AUTHORS = {  # the sizes of the HiNet paper's authors
    "sub_experts": 5,
    "expert_units": (128, 64),
    "task_experts": 2,
    "shared_experts": 2,
    "task_expert_units": (128, 64),
    "tower_units": (128, 64),
    "scenario_width": 64,
    "scenario_heads": True,
}
WARM_UP = 10  # rounds that are not counted
FULL, CACHED, SPLIT = "plain", "kept", "fresh"  # names in the report; the modes of serving/ranking/scorer.py


def run(
    json: Path,
    *,
    items: tuple[int, ...],
    threads: tuple[int, ...],
    rounds: int,
    users: int,
    catalogue: int,
    exported: bool = False,
) -> None:
    """Time every combination, print the table and write it to `json`; arguments as of the command."""
    before, results = torch.get_num_threads(), []
    train = params.load().train
    sizes = {"params.yaml": train.hinet.shape(), "hinet_plus": train.hinet_plus.shape(), "the authors'": AUTHORS}
    for name, config in sizes.items():
        programs = None  # of all requests of a config, which have the same network
        for count, running in product(items, threads):
            torch.set_num_threads(running)
            request = RandomRequest(config, users=users, catalogue=catalogue, items=count)
            programs = (request.export() if exported else {}) if programs is None else programs
            results.append({"network": name, "items": count, "threads": running, **request.measure(rounds, programs)})
    torch.set_num_threads(before)
    write_text(json, text.dumps({"rounds": rounds, "torch": torch.__version__, "requests": results}, indent=1) + "\n")
    show(results)


class RandomRequest:
    """A request with random rows for a random network; each mode gives its logits [N, T] from the encoded rows."""

    def __init__(self, config: dict[str, Any], *, users: int, catalogue: int, items: int) -> None:
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
        self.network = HiNet(data, HiNetConfig(embedding_width=WIDTH, **config)).eval()
        _enlarge(self.network)
        self.fused = fused_hinet(self.network, ITEM)
        random = np.random.default_rng(1)
        rows = _rows(random, np.array([tables[table] for table in columns]), catalogue)
        rows.categorical[:, 0] = np.arange(catalogue)
        self.cache = self.fused.items(rows)
        index = random.permutation(catalogue)[:items]
        self.index = torch.from_numpy(index)
        self.batch = Batch(rows.categorical[index], rows.bags[index], rows.numeric[index], rows.scenario[index])

    def full(self) -> Tensor:
        """The network's forward of N complete rows."""
        return self.run(self.network)

    @torch.inference_mode()
    def run(self, program: Program) -> Tensor:
        """The logits that a program gives for N complete rows."""
        return program(*self.inputs())

    def inputs(self) -> Rows:
        """The N complete rows as tensors."""
        batch = self.batch
        categorical, bags = torch.from_numpy(batch.categorical), torch.from_numpy(batch.bags)
        return categorical, bags, torch.from_numpy(batch.numeric), torch.from_numpy(batch.scenario)

    def export(self) -> dict[str, Program]:
        """The network exported, and compiled where that is possible."""
        program = export_network(self.network, self.inputs())
        with TemporaryDirectory() as folder:
            reason = compile_program(program, Path(folder) / COMPILED)
            compiled = {} if reason else {"compiled": load_compiled(Path(folder) / COMPILED)}
        if reason:
            print(f"not compiled with AOTInductor: {reason}")
        return {"exported": program.module(), **compiled}

    def cached(self) -> Tensor:
        """The user's partial activations, and the items' from the cache."""
        return self.fused.rank(self.fused.user(self.batch), self.cache, 0, self.index)

    def split(self) -> Tensor:
        """The user's partial activations, and the items' computed in the request."""
        return self.fused.rank_rows(self.fused.user(self.batch), self.batch, 0)

    def measure(self, rounds: int, programs: Mapping[str, Program] = MappingProxyType({})) -> dict[str, Any]:
        """Milliseconds of each mode, its speed relative to the full forward, and its largest difference from it."""
        modes = {FULL: self.full, CACHED: self.cached, SPLIT: self.split}
        modes |= {name: partial(self.run, program) for name, program in programs.items()}
        expected, times = self.full(), _timed(modes, rounds)
        milliseconds: dict[str, Any] = {
            name: {mode: round(pick(of_mode) * 1e3, 4) for mode, of_mode in times.items()}
            for name, pick in (("median", median), ("fastest", min))
        }
        return milliseconds | {
            "ratio": {name: _ratio(of_mode) for name, of_mode in milliseconds.items()},
            "largest_difference": {
                mode: float((modes[mode]() - expected).abs().max()) for mode in modes if mode != FULL
            },
            "bytes_per_item": self.fused.bytes_per_item,
        }


def show(results: list[dict[str, Any]]) -> None:
    """Print a line per request."""
    modes = list(results[0]["median"])
    columns = ("network", "items", "threads", *(f"{mode} ms" for mode in modes), *modes[1:])
    title = "median (fastest) of the rounds; speed relative to the plain forward"
    table = Table(*columns, "largest difference", title=title)
    for one in results:
        times, ratio = (one["median"], one["fastest"]), one["ratio"]
        table.add_row(
            one["network"],
            f"{one['items']:,}",
            str(one["threads"]),
            *(f"{times[0][mode]:.2f} ({times[1][mode]:.2f})" for mode in modes),
            *(f"{ratio['median'][mode]:.2f} ({ratio['fastest'][mode]:.2f})" for mode in modes[1:]),
            f"{max(one['largest_difference'].values()):.0e}",
        )
    Console(width=max(120, 34 * len(modes))).print(table)


def _ratio(times: dict[str, float]) -> dict[str, float]:
    """The speed relative to the full forward."""
    return {mode: round(times[FULL] / milliseconds, 3) for mode, milliseconds in times.items() if mode != FULL}


def _enlarge(network: HiNet) -> None:
    """Set weights that preserve a row's size from layer to layer: with logits like trained ones, parity matters."""
    with torch.no_grad():
        for weight in (parameter for parameter in network.parameters() if parameter.dim() == 3):
            weight.normal_(std=(2 / weight.shape[2]) ** 0.5)


def _rows(random: np.random.Generator, values: NDArray[np.int64], count: int) -> Batch:
    """Rows of one user in scenario 0; the item's columns differ."""
    categorical = random.integers(0, values, (count, FIELDS)).astype(np.int32)
    numeric = random.normal(size=(count, NUMBERS)).astype(np.float32)
    categorical[:, FIELDS // 2 :], numeric[:, NUMBERS // 2 :] = (
        categorical[0, FIELDS // 2 :],
        numeric[0, NUMBERS // 2 :],
    )
    bags = np.tile(random.integers(0, values[0], RECENT).astype(np.int32), (count, 1))
    return Batch(categorical, bags, numeric, np.zeros(count, np.int32))


def _timed(modes: Mapping[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every mode in every round, one mode after the other."""
    times: dict[str, list[float]] = {mode: [] for mode in modes}
    for turn in range(-WARM_UP, rounds):
        for mode, answer in modes.items():
            started = time.perf_counter()
            answer()
            times[mode] += [time.perf_counter() - started] if turn >= 0 else []
    return times
