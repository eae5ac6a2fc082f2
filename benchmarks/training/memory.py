"""The memory of an epoch over rows on disk, as their number grows; each measurement runs in its own process."""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from features.encoding.tensors import Tensors
from models.training.batches import BLOCK_ROWS, BatchLoader

FIELDS = 8
RESIDENT_BYTES = 1 << 26  # less than that of models/training/batches.py, so that a small file does not fit


def peak_megabytes(counts: tuple[int, ...]) -> dict[str, float]:
    """Peak memory in MB of an epoch over so many rows on disk, without the pages of the files, which can be dropped."""
    peaks = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in counts:
            folder = write_rows(Path(temporary) / str(count), count)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                peaks[f"{count:,} rows"] = pool.submit(peak_of_epoch, folder).result()
    return peaks


def write_rows(folder: Path, rows: int) -> Path:
    """Write encoded rows as the stage encode does, block by block; returns the folder."""
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


def peak_of_epoch(folder: Path) -> float:
    """The largest memory in MB while every row is loaded once, shuffled."""
    names = ("categorical", "bags", "numeric", "scenario", "labels", "event_id", "user")
    tensors = Tensors(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})
    loader, peak, loaded = BatchLoader(tensors, torch.device("cpu"), RESIDENT_BYTES), 0.0, 0
    for batch in loader.shuffled(BLOCK_ROWS, torch.Generator().manual_seed(1)):
        peak, loaded = max(peak, anonymous_megabytes()), loaded + len(batch.scenario)
    if loaded != loader.count:
        raise RuntimeError(f"an epoch over {loader.count} rows loaded {loaded}")
    return round(peak)


def anonymous_megabytes() -> float:
    """Memory of this process in MB that no file backs (RssAnon of Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))
