"""DuckDB connections: the memory limit, the threads and the folder of spilled data."""

from pathlib import Path

import pytest

from features.engine.connection import connect, connection_settings

pytestmark = pytest.mark.unit


def setting(name: str, scratch: Path, threads: int | None) -> object:
    """The value of a setting of a new connection."""
    with connect(scratch, threads) as connection:
        row = connection.execute("select current_setting(?)", [name]).fetchone()
    assert row is not None
    return row[0]


def test_a_connection_has_its_threads_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are those of the argument, else the cores of the process; data are spilled to `scratch`."""
    monkeypatch.setattr("common.stage.threads", lambda: 3)
    assert setting("threads", tmp_path, 1) == 1
    assert setting("threads", tmp_path, None) == 3
    assert setting("temp_directory", tmp_path, None) == str(tmp_path)


def test_every_connection_has_its_share_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two gigabytes by default, else what HINET_MEMORY says; and the share of it that is given."""
    monkeypatch.delenv("HINET_MEMORY", raising=False)
    assert setting("memory_limit", tmp_path, 1) == "1.8 GiB"
    assert connection_settings(share=1 / 8)["memory_limit"] == "250000000B"
    monkeypatch.setenv("HINET_MEMORY", "4GiB")
    assert setting("memory_limit", tmp_path, 1) == "4.0 GiB"
