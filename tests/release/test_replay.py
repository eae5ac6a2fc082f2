"""A day of the log as the service would have answered it: the same probabilities, in the columns of a served window."""

import contextlib
import json
import shutil
import sqlite3
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from common.errors import ReleaseError, SourceError
from features.refresh import refresh
from models.evaluation.accuracy import probabilities_of
from models.model_folder import read_model
from release.comparison import score
from release.replay import FIGURES, SERVED, replay
from tests.support import tiny_project, world

DAY = date(2026, 1, 10)  # the last of the tiny world
MORNING = datetime(2026, 1, 10, 1)  # its statistics are known an hour after midnight
NOON = datetime(2026, 1, 10, 12)


@pytest.fixture
def given(project: Path, tmp_path: Path) -> dict[str, Any]:
    """The morning of the last day: what `replay` is given, with an online store that holds what was known then."""
    data = project / "data"
    world.write_params(tmp_path, release__sample=20)
    found = {
        "day": DAY,
        "events": data / "validated/events",
        "schema": data / "schema.json",
        "features": data / "features",
        "online": tmp_path / "online.db",
        "moment": MORNING,
        "model": project / tiny_project.MODEL,
        "frozen": project / tiny_project.MODEL,
        "out": tmp_path / "out",
    }
    fill(found)
    return found


def fill(given: dict[str, Any]) -> None:
    """Bring an online store up to the morning."""
    named = {name: given[name] for name in ("schema", "features", "online")}
    with contextlib.chdir(given["out"].parent):
        refresh(**named, as_of=MORNING, out=given["online"].with_suffix(".refreshed"))


def most_shown(events: Path) -> Any:
    """The item with the most impressions on the day."""
    items = pq.read_table(events / f"day={DAY}", partitioning=None)["item_id"]
    return pc.mode(items)[0]["mode"].as_py()


def run(given: dict[str, Any], **chosen: Any) -> dict[str, Any]:
    """The figures of a replay."""
    with contextlib.chdir(given["out"].parent):
        replay(**given | chosen)
    found: dict[str, Any] = json.loads((given["out"] / FIGURES).read_text())
    return found


def test_the_rows_are_those_of_the_day_with_what_the_model_says(given: dict[str, Any], project: Path) -> None:
    """Features as of each impression, as the training set has them; probabilities of the model of the day."""
    figures = run(given)
    served, model = pq.read_table(given["out"] / SERVED), read_model(project / tiny_project.MODEL)
    known = pq.read_table([project / f"data/training/{split}.parquet" for split in ("train", "valid", "test")])
    same = known.filter(np.isin(known["event_id"].to_numpy(), served["event_id"].to_numpy())).sort_by("event_id")
    assert served.select(known.column_names).equals(same)
    assert {moment.date() for moment in served["timestamp"].to_pylist()} == {DAY}
    said = probabilities_of(score(model, given["out"] / SERVED), model.schema.tasks)
    for place, name in enumerate(model.schema.output_names):
        np.testing.assert_allclose(served[f"score_{name}"].to_numpy(), said[:, place])
    assert set(served["model_tag"].to_pylist()) == {model.tag}
    assert (figures["rows"], figures["gain"]["value"]) == (served.num_rows, 0)
    assert figures["mean"] == figures["frozen"]
    assert figures["checked"] == 20


def test_what_comes_at_noon_is_not_known_in_the_morning(given: dict[str, Any], tmp_path: Path) -> None:
    """An item's only row is of noon: on that day it is served without features, as the store of the morning has it."""
    late = tmp_path / "features"
    shutil.copytree(given["features"], late)
    busiest = most_shown(given["events"])
    rows = pq.read_table(late / "item.parquet")
    place = rows.schema.get_field_index("event_timestamp")
    noon = pa.scalar(NOON, rows.schema.field(place).type)
    moments = pc.if_else(pc.equal(rows["item_id"], busiest), noon, rows["event_timestamp"])
    pq.write_table(rows.set_column(place, rows.schema.field(place), moments), late / "item.parquet")
    given |= {"features": late, "online": tmp_path / "morning.db"}
    fill(given)
    assert run(given)["checked"] == 20
    served = pq.read_table(given["out"] / SERVED)
    shown = served.filter(pc.equal(served["item_id"], busiest))
    assert max(shown["timestamp"].to_pylist()) > NOON
    assert set(shown["price"].to_pylist()) == {None}


def test_a_store_that_answers_otherwise_is_told(given: dict[str, Any]) -> None:
    """A sample of the rows is asked of a ranker on it: what is in the file has to be what would have been served."""
    with contextlib.closing(sqlite3.connect(given["online"])) as connection:
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            connection.execute(f'delete from "{table}"')
        connection.commit()
    with pytest.raises(ReleaseError, match=r"online.db as of 2026-01-10 01:00: .* not so for \d+, by up to"):
        run(given)


def test_a_day_without_impressions_is_told(given: dict[str, Any]) -> None:
    """With the folder that is looked for."""
    with pytest.raises(SourceError, match="no impressions of 2026-02-01: expected a folder day=2026-02-01"):
        run(given, day=date(2026, 2, 1))
