"""DuckDB connections of the pipeline: one memory limit, and a thread count that respects the process's cores."""

from pathlib import Path

import duckdb

from common import stage

MEMORY_LIMIT = "2GB"


def connect(
    scratch: Path | None = None, threads: int | None = None, memory_limit: str = MEMORY_LIMIT
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database.

    What exceeds `memory_limit` is spilled to files under `scratch`; without it, DuckDB chooses the folder. `threads` is
    by default the number of cores that this process may use.
    """
    return duckdb.connect(config=connection_settings(scratch, threads, memory_limit))


def connection_settings(
    scratch: Path | None = None, threads: int | None = None, memory_limit: str = MEMORY_LIMIT
) -> dict[str, str | bool | int | float | list[str]]:
    """The DuckDB settings of `connect`, for a library that opens its own connection."""
    spill: dict[str, str | bool | int | float | list[str]] = {} if scratch is None else {"temp_directory": str(scratch)}
    return spill | {"memory_limit": memory_limit, "threads": stage.threads() if threads is None else threads}
