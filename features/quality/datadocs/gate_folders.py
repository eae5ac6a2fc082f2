"""The store of a project of Great Expectations that holds several gates: the folder of each gate stays its own."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from great_expectations.data_context.store import TupleFilesystemStoreBackend


class GateFolders(TupleFilesystemStoreBackend):
    """A store whose key decides the folder: `training.train` is in that of `training`, any other in the project's own.

    Args:
        base_directory: the folder under which the gates' projects are.
        folder: folder of the store within a project.
        gates: the folder of each gate's project, relative to `base_directory`.
        root_directory: what `base_directory` is relative to.
        settings: those of the store of files.
    """

    def __init__(
        self,
        base_directory: str,
        folder: str,
        gates: Mapping[str, str],
        root_directory: str | None = None,  # named, else Great Expectations passes none
        **settings: Any,
    ) -> None:
        self._folders = {gate: f"{project}/{folder}" for gate, project in gates.items()}
        self._own = f"gx/{folder}"
        super().__init__(base_directory, root_directory=root_directory, **settings)
        self._config |= {"folder": folder, "gates": dict(gates)}

    def _convert_key_to_filepath(self, key: tuple[str, ...]) -> str:
        gate = key[0].split(".")[0]
        return f"{self._folders.get(gate, self._own)}/{super()._convert_key_to_filepath(key)}"  # type: ignore[no-untyped-call]

    def _convert_filepath_to_key(self, filepath: str) -> tuple[str, ...] | None:
        """The key of a file, None for a file of another store."""
        for folder in (*self._folders.values(), self._own):
            if PurePosixPath(filepath).is_relative_to(folder):
                key: tuple[str, ...] = super()._convert_filepath_to_key(filepath[len(folder) + 1 :])  # type: ignore[no-untyped-call]
                return key
        return None
