"""What a fit holds in memory as its rows grow: the part of benchmarks/training/benchmark.py that needs processes of its own."""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from features.encoding.tensors import Tensors
from models.training.batches import BLOCK_ROWS, Rows

FIELDS = 8
RESIDENT_BYTES = (
    1 << 26
)  # instead of the gigabyte that models/training/batches.py allows, so that a small file is large


def anonymous_megabytes(counts: tuple[int, ...]) -> dict[str, float]:
    """Peak memory of a pass over so many rows on disk: all but the pages of the files, which the system can drop."""
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in counts:
            folder = write(Path(temporary) / str(count), count)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found[f"{count:,} rows"] = pool.submit(peak_of_a_pass, folder).result()
    return found


def write(folder: Path, rows: int) -> Path:
    """Encoded rows on disk, as the stage encode leaves them, block by block."""
    folder.mkdir()
    random = np.random.default_rng(1)
    for name, dtype, shape in (
        ("categorical", "i4", (rows, FIELDS)),
        ("bags", "i4", (rows, 0)),
        ("numeric", "f4", (rows, 0)),
        ("labels", "f4", (rows, 2)),
        ("scenario", "i4", (rows,)),
        ("event_id", "i8", (rows,)),
        ("user", "i8", (rows,)),
    ):
        column = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.dtype(dtype), shape)
        for start in range(0, rows if column.ndim > 1 and column.shape[1] else 0, 1 << 20):
            part = column[start : start + (1 << 20)]
            part[:] = random.integers(0, 2, part.shape)
    return folder


def peak_of_a_pass(folder: Path) -> float:
    """Megabytes that were held at most while every row was handed out once, shuffled."""
    names = ("categorical", "bags", "numeric", "scenario", "labels", "event_id", "user")
    tensors = Tensors(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})
    rows, peak, seen = Rows(tensors, torch.device("cpu"), RESIDENT_BYTES), 0.0, 0
    for part in rows.shuffled(BLOCK_ROWS, torch.Generator().manual_seed(1)):
        peak, seen = max(peak, anonymous()), seen + len(part.scenario)
    if seen != rows.count:
        raise RuntimeError(f"a pass over {rows.count} rows handed out {seen}")
    return round(peak)


def anonymous() -> float:
    """Megabytes of this process that no file backs (RssAnon of Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))
