"""What a training run needs to go on after it was killed: one file, whole or not there, and no pickle.

The file lies outside DVC's outputs, which DVC removes before a stage runs. Its name is the sha256 of all that decides
the weights, so that a run never goes on from another's checkpoint.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


class Checkpoint:
    """The checkpoint of one run: `folder`/`key`.safetensors, written `seconds` after it was last written."""

    def __init__(self, folder: Path, key: str, seconds: float) -> None:
        self.path, self.seconds = folder / f"{key}.safetensors", seconds
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the tensors in place of the last ones, by a rename: a kill leaves the last ones or these."""
        partial = self.path.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # a rename that outlives a power cut, of bytes that do not, is half a file
        partial.replace(self.path)
        self._written = time.monotonic()

    def read(self) -> dict[str, Tensor] | None:
        """The tensors that were written last, on the CPU; None where there are none, or (it warns) damaged ones."""
        try:
            return {name: value.clone() for name, value in load_file(self.path).items()}  # in aligned memory of its own
        except FileNotFoundError:
            return None
        except (safetensors.SafetensorError, OSError) as error:
            warnings.warn(f"{self.path} cannot be read ({error}): training starts from the beginning", stacklevel=2)
            return None

    def remove(self) -> None:
        """Remove the folder: the run is over, and what other parameters left unfinished goes with it."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def key_of(facts: Mapping[str, Any], files: Iterable[Path]) -> str:
    """What names a checkpoint: sha256 of `facts` (plain data), of the bytes of `files`, of models/ and of torch."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    plain = json.dumps({"torch": torch.__version__, **facts}, sort_keys=True)
    digests = [f"{path.name} {_sha256(path)}" for path in [*code, *files]]
    return hashlib.sha256("\n".join([plain, *digests]).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
