"""The DuckDB connection with which Feast, through ibis, reads the offline store."""

from pathlib import Path

import ibis

from features.engine.connection import connection_settings


def set_ibis_backend(scratch: Path | None = None, threads: int | None = None) -> None:
    """Set ibis' default backend for this process; the arguments are those of features.engine.connection.connect."""
    ibis.set_backend(ibis.duckdb.connect(**connection_settings(scratch, threads)))
