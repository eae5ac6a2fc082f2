"""Checkpoints of a training run: one safetensors file, replaced atomically, no pickle.

The file lies outside DVC's outputs, which DVC removes before a stage runs. Its name is the sha256 of all that decides
the weights, so that a run never resumes from the checkpoint of another one.
"""

import hashlib
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.files import replacing, sha256_of
from common.paths import ROOT
from models.training.sharded_tables import TableShard

# What can change a step, or the choice of the epoch; the code of a peer is added by `code_of`.
CODE = (
    "models/networks",
    "models/training",
    "models/evaluation/accuracy.py",
    "models/evaluation/metrics.py",
    "models/train.py",
)


class Checkpoint:
    """The checkpoint of one run: `folder`/`key`.safetensors, due again `seconds` after it was last written."""

    def __init__(self, folder: Path, key: str, seconds: float) -> None:
        self.path, self.seconds = folder / f"{key}.safetensors", seconds
        self._written = time.monotonic()
        self.shards: Mapping[str, TableShard] = {}  # the tensors that are rows of this process, in a ShardedCheckpoint

    @property
    def together(self) -> bool:
        """Whether all processes write: one of them has all that is to be written."""
        return False

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the last tensors by these, atomically: after a kill the file holds the last ones or these."""
        with replacing(self.path) as partial:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)
        self.written()

    def written(self) -> None:
        """Count the seconds until the next one from now on."""
        self._written = time.monotonic()

    def read(self) -> dict[str, Tensor] | None:
        """The tensors that were written last, on the CPU; None where there are none, or (it warns) damaged ones."""
        try:
            return {name: value.clone() for name, value in load_file(self.path).items()}  # copies in aligned memory
        except FileNotFoundError:
            return None
        except (safetensors.SafetensorError, OSError) as error:
            warnings.warn(f"{self.path} cannot be read ({error}): training starts from the beginning", stacklevel=2)
            return None

    def remove(self) -> None:
        """Remove the folder, with the checkpoints that unfinished runs of other parameters left there."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def checkpoint_key(
    facts: Mapping[str, Any],
    files: Iterable[Path],
    code: Mapping[str, Path],
    checksum: Callable[[Path], str] = sha256_of,
) -> str:
    """The name of a run's checkpoint: sha256 of `facts` (plain data), of the bytes of `files` and `code`, of torch.

    `checksum` gives the SHA-256 of one of the `files`.
    """
    plain = json.dumps({"torch": torch.__version__, **facts}, sort_keys=True)
    data = [f"{path.name} {checksum(path)}" for path in files]
    digests = [f"{name} {sha256_of(path)}" for name, path in sorted(code.items())]
    return hashlib.sha256("\n".join([plain, *digests, *data]).encode()).hexdigest()


def code_of(network: nn.Module, root: Path = ROOT) -> dict[str, Path]:
    """The files of the project under `root` that can change a training step of the network, by relative path."""
    folders = [path for name in CODE for path in sorted((root / name).rglob("*.py"))]
    files = [root / name for name in CODE if name.endswith(".py")]
    modules = {cls.__module__ for module in network.modules() for cls in type(module).__mro__}
    sources = (Path(sys.modules[name].__file__ or "") for name in modules if name.startswith("models."))
    own = [root / path.relative_to(ROOT) for path in sources]
    return {path.relative_to(root).as_posix(): path for path in [*folders, *files, *own]}
