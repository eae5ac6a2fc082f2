"""Stage join: train, valid and test together hold the validated events."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from common.errors import JoinError
from features.join import join
from features.schema import SPLITS
from features.store.point_in_time import STATEMENT_ROWS
from tests.support import world

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("how", ["time", "random"])
def test_the_stage_writes_every_impression_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """train, valid and test together hold the validated events: each once, unchanged, in order of time."""
    tables = world.tables(rows=300)
    folder = world.write_features(tmp_path, tables)
    world.write_params(folder, join__split=how)
    monkeypatch.chdir(folder)
    join(schema=Path("schema.json"), validated=Path("validated"), features=Path("features"), out=Path("training"))
    parts = [pd.read_parquet(folder / "training" / f"{name}.parquet") for name in SPLITS]
    assert all(part["timestamp"].is_monotonic_increasing for part in parts)
    together = pd.concat(parts).sort_values("event_id").reset_index(drop=True)
    events = tables["events"]
    pd.testing.assert_frame_equal(together[list(events)], events, check_dtype=False)
    if how == "time":
        assert parts[0]["timestamp"].max() < parts[1]["timestamp"].min() < parts[2]["timestamp"].min()


@pytest.mark.parametrize("rows_of_a_statement", [29, 150, 299])
def test_a_log_in_parts_is_joined_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_of_a_statement: int
) -> None:
    """Eleven statements, two, or one for all but a row: the three files are those of one statement."""
    folder = world.write_features(tmp_path, world.tables(rows=300))
    world.write_params(folder)
    monkeypatch.chdir(folder)
    for out, rows in (("whole", STATEMENT_ROWS), ("parts", rows_of_a_statement)):
        monkeypatch.setattr("features.store.point_in_time.STATEMENT_ROWS", rows)
        join(schema=Path("schema.json"), validated=Path("validated"), features=Path("features"), out=Path(out))
    for name in SPLITS:
        assert (folder / f"parts/{name}.parquet").read_bytes() == (folder / f"whole/{name}.parquet").read_bytes()


def test_an_impression_that_is_there_twice_stops_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows with one event id: JoinError with the rows of the log and the event ids among them."""
    folder = world.write_features(tmp_path, world.tables(rows=300))
    world.write_params(folder)
    day = sorted((folder / "validated" / "events").iterdir())[0]
    repeated = len(pd.read_parquet(day / "part-0.parquet"))
    shutil.copy(day / "part-0.parquet", day / "part-1.parquet")
    monkeypatch.chdir(folder)
    with pytest.raises(JoinError, match=rf"gave back {300 + repeated} \(300 distinct event ids\)"):
        join(schema=Path("schema.json"), validated=Path("validated"), features=Path("features"), out=Path("training"))
