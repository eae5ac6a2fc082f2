"""Checkpoints of a run whose tables are divided among its processes: each writes its rows, by torch's own means.

A checkpoint is a folder, in the format of torch.distributed.checkpoint, and read by any number of processes: each takes
the rows that it has then, out of the files of those that wrote. The file `.metadata` is written last: a folder without
it is none.
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from models.training.checkpoint import Checkpoint

COMPLETE = ".metadata"


class ShardedCheckpoint(Checkpoint):
    """The checkpoint of one run: the newest complete folder in `folder`/`key`."""

    def __init__(self, folder: Path, key: str, seconds: float) -> None:
        super().__init__(folder, key, seconds)
        self.path = folder / key

    @property
    def together(self) -> bool:
        """Whether all processes write."""
        return bool(self.shards)

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the tensors, then remove those that were written before: a kill leaves the ones or the others."""
        number = 1 + max(map(int, (folder.name for folder in self._complete())), default=0)
        folder = self.path / str(number)
        values = {name: self._distributed(name, value.detach()) for name, value in tensors.items()}
        with _quiet():
            save(values, checkpoint_id=folder, no_dist=not self.together)
        if not self.together or dist.get_rank() == 0:
            for other in self.path.iterdir():
                if other != folder:
                    shutil.rmtree(other)
        if self.together:
            dist.barrier()  # all of them see the same folders next time
        self.written()

    def read(self) -> dict[str, Tensor] | None:
        """The tensors that were written last, of tables the rows of this process; None where there are none."""
        complete = self._complete()
        if not complete:
            return None
        reader = FileSystemReader(complete[-1])
        try:
            known = reader.read_metadata().state_dict_metadata
            values = {name: self._empty(name, entry) for name, entry in known.items()}
            with _quiet():
                load(values, storage_reader=reader, no_dist=not self.together)
        except (CheckpointException, OSError, RuntimeError) as error:
            warnings.warn(f"{complete[-1]} cannot be read ({error}): training starts from the beginning", stacklevel=2)
            return None
        return {name: value.to_local() if isinstance(value, DTensor) else value for name, value in values.items()}

    def _complete(self) -> list[Path]:
        """The folders that are whole, the newest last."""
        folders = (path.parent for path in self.path.glob(f"*/{COMPLETE}"))
        return sorted(folders, key=lambda folder: int(folder.name))

    def _distributed(self, name: str, value: Tensor) -> Tensor:
        return self.shards[name].distributed(value) if name in self.shards else value

    def _empty(self, name: str, entry: object) -> Tensor:
        """Memory for a tensor, of a table for this process's rows of it."""
        if not isinstance(entry, TensorStorageMetadata):
            raise RuntimeError(f"{name} is no tensor")
        if name not in self.shards:
            return torch.empty(entry.size, dtype=entry.properties.dtype)
        shard = self.shards[name]
        rows = shard.rows(dist.get_rank())
        local = torch.empty(rows.stop - rows.start, entry.size[1], dtype=entry.properties.dtype)
        return shard.distributed(local.to(shard.mesh.device_type))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning of torch that there is one process only, which `no_dist` does not switch off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
