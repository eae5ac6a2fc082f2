"""Buckets for DuckDB: a file system of fsspec, registered with every connection."""

from functools import cached_property
from typing import Any

import fsspec


class ObjectStorage(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """s3:// by s3fs, which is imported at the first file."""

    protocol = "s3"

    @cached_property
    def _files(self) -> Any:
        return fsspec.filesystem("s3")

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """A file to read."""
        return self._files.open(path, mode)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size and kind of a file."""
        known: dict[str, Any] = self._files.info(path)
        return known

    def glob(self, path: str, **_: Any) -> list[str]:
        """The files that match a pattern."""
        names: list[str] = self._files.glob(path)
        return names

    def modified(self, path: str) -> Any:
        """When a file was changed."""
        return self._files.modified(path)
