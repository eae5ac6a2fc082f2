"""DuckDB connections of the pipeline: the memory of HINET_MEMORY, and threads that respect the process's cores."""

from pathlib import Path

import duckdb

from common import stage
from common.settings import read_settings
from features.engine.object_storage import ObjectStorage


def connect(scratch: Path | None = None, threads: int | None = None, share: float = 1) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database.

    What exceeds `share` of HINET_MEMORY is spilled to files under `scratch`; without it, DuckDB chooses the folder.
    `threads` is by default the number of cores that this process may use.
    """
    connection = duckdb.connect(config=connection_settings(scratch, threads, share))
    connection.register_filesystem(ObjectStorage())
    return connection


def connection_settings(
    scratch: Path | None = None, threads: int | None = None, share: float = 1
) -> dict[str, str | bool | int | float | list[str]]:
    """The DuckDB settings of `connect`, for a library that opens its own connection."""
    spill: dict[str, str | bool | int | float | list[str]] = {} if scratch is None else {"temp_directory": str(scratch)}
    limit = f"{int(read_settings().memory_bytes * share)}B"
    return spill | {"memory_limit": limit, "threads": stage.threads() if threads is None else threads}
