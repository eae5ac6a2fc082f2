"""A second model and a second snapshot that differ from the first ones: what is exchanged under load."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from models.model_folder import MODEL, WEIGHTS

NOISE = 0.05  # of the deviation of each weight


def perturbed_model(model: Path, target: Path, seed: int = 1) -> None:
    """A copy of a model folder with noise on its weights, and sums that say so."""
    shutil.copytree(model, target)
    draw = np.random.default_rng(seed)
    weights = {
        name: w + (NOISE * w.std() * draw.standard_normal(w.shape)).astype(w.dtype)
        for name, w in load_file(model / WEIGHTS).items()
    }
    save_file(weights, target / WEIGHTS)
    told = json.loads((target / MODEL).read_text())
    told["sha256"][WEIGHTS] = hashlib.sha256((target / WEIGHTS).read_bytes()).hexdigest()
    (target / MODEL).write_text(json.dumps(told, indent=1) + "\n")


def shifted_snapshot(snapshot: Path, target: Path) -> None:
    """A copy of an item snapshot in which every number of the items is a tenth larger."""
    rows = pq.read_table(snapshot)
    for place, field in enumerate(rows.schema):
        if pa.types.is_float32(field.type):
            values = rows[field.name].to_numpy() * np.float32(1.1)
            rows = rows.set_column(place, field, pa.array(values, field.type, from_pandas=True))
    pq.write_table(rows, target, write_page_checksum=True)
