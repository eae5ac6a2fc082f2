"""Two models and two item snapshots that differ from each other, to be exchanged under load."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from common.files import sha256_of
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import MODEL, WEIGHTS

NOISE = 0.05  # relative to the standard deviation of each weight


def perturbed_model(model: Path, target: Path, seed: int = 1) -> None:
    """Copy a model folder with noise on its weights, and with their checksum."""
    shutil.copytree(model, target)
    random = np.random.default_rng(seed)
    weights = {
        name: w + (NOISE * w.std() * random.standard_normal(w.shape)).astype(w.dtype)
        for name, w in load_file(model / WEIGHTS).items()
    }
    save_file(weights, target / WEIGHTS)
    document = json.loads((target / MODEL).read_text())
    document["sha256"][WEIGHTS] = sha256_of(target / WEIGHTS)
    (target / MODEL).write_text(json.dumps(document, indent=1) + "\n")


def shifted_snapshot(snapshot: Path, target: Path) -> None:
    """Copy an item snapshot with every number of the items increased by a tenth."""
    rows = pq.read_table(snapshot)
    for index, field in enumerate(rows.schema):
        if pa.types.is_float32(field.type):
            values = rows[field.name].to_numpy() * np.float32(1.1)
            rows = rows.set_column(index, field, pa.array(values, field.type, from_pandas=True))
    pq.write_table(rows, target, write_page_checksum=True)


class Variants:
    """Two models and two snapshots; `model` is a link that is replaced by a rename, as a release does."""

    def __init__(self, model: Path, online: Path, scratch: Path) -> None:
        self.model, self.online = scratch / "champion", scratch / "online.db"
        shutil.copyfile(online, self.online)
        self.models = [scratch / "first", scratch / "second"]
        shutil.copytree(model, self.models[0])
        perturbed_model(model, self.models[1])
        self.snapshots = [scratch / "first.parquet", scratch / "second.parquet"]
        shutil.copyfile(item_snapshot_path(online), self.snapshots[0])
        shifted_snapshot(item_snapshot_path(online), self.snapshots[1])

    def use(self, model: int, snapshot: int) -> None:
        """Use this pair; each file is replaced by a rename, unless it is in use already."""
        link = self.model.with_name("link.new")
        link.symlink_to(self.models[model])
        link.replace(self.model)
        path = item_snapshot_path(self.online)
        if not path.exists() or path.read_bytes() != self.snapshots[snapshot].read_bytes():
            new = path.with_name("snapshot.new")
            shutil.copyfile(self.snapshots[snapshot], new)
            new.replace(path)
