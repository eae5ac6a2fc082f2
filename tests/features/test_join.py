"""Stage join: train, valid and test together hold the validated events."""

from pathlib import Path

import pandas as pd
import pytest

from features.join import join
from features.schema import SPLITS
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
