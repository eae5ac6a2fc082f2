"""A day of the log as the service would have answered it: the same probabilities, in the columns of its log."""

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
from release.replay import replay
from release.served_day import METRICS, SERVED
from tests.support import tiny_project, world

pytestmark = pytest.mark.integration

DAY = date(2026, 1, 10)  # the last of the tiny world
MORNING = datetime(2026, 1, 10, 1)  # its statistics are known an hour after midnight
NOON = datetime(2026, 1, 10, 12)


@pytest.fixture
def given(project: Path, tmp_path: Path) -> dict[str, Any]:
    """The arguments of `replay` on the last day, with an online store that has what was known in the morning."""
    data = project / "data"
    world.write_params(tmp_path, release__sample=20)
    arguments = {
        "day": DAY,
        "events": data / "validated/events",
        "schema": data / "schema.json",
        "features": data / "features",
        "online": tmp_path / "online.db",
        "as_of": MORNING,
        "model": project / tiny_project.MODEL,
        "frozen": project / tiny_project.MODEL,
        "out": tmp_path / "out",
    }
    fill(arguments)
    return arguments


def fill(given: dict[str, Any]) -> None:
    """Materialize an online store up to the morning."""
    named = {name: given[name] for name in ("schema", "features", "online")}
    with contextlib.chdir(given["out"].parent):
        refresh(**named, as_of=MORNING, out=given["online"].with_suffix(".refreshed"))


def most_shown(events: Path) -> Any:
    """The item with the most impressions on the day."""
    items = pq.read_table(events / f"day={DAY}", partitioning=None)["item_id"]
    return pc.mode(items)[0]["mode"].as_py()


def run(given: dict[str, Any], **chosen: Any) -> dict[str, Any]:
    """The metrics of a replay."""
    with contextlib.chdir(given["out"].parent):
        replay(**given | chosen)
    metrics: dict[str, Any] = json.loads((given["out"] / METRICS).read_text())
    return metrics


def test_the_rows_of_the_day_have_the_probabilities_of_the_model(given: dict[str, Any], project: Path) -> None:
    """Features as of each impression, as in the training set; probabilities of the model of the day."""
    metrics = run(given)
    served, model = pq.read_table(given["out"] / SERVED), read_model(project / tiny_project.MODEL)
    known = pq.read_table([project / f"data/training/{split}.parquet" for split in ("train", "valid", "test")])
    same = known.filter(np.isin(known["event_id"].to_numpy(), served["event_id"].to_numpy())).sort_by("event_id")
    assert served.select(known.column_names).equals(same)
    assert {timestamp.date() for timestamp in served["timestamp"].to_pylist()} == {DAY}
    probabilities = probabilities_of(score(model, given["out"] / SERVED), model.schema.tasks)
    for index, name in enumerate(model.schema.output_names):
        np.testing.assert_allclose(served[f"score_{name}"].to_numpy(), probabilities[:, index])
    assert set(served["model_tag"].to_pylist()) == {model.tag}
    assert (metrics["rows"], metrics["gain"]["value"]) == (served.num_rows, 0)
    assert metrics["mean"] == metrics["frozen"]
    assert metrics["checked"] == 20


def test_features_of_noon_are_unknown_in_the_morning(given: dict[str, Any], tmp_path: Path) -> None:
    """An item whose only row is of noon is served without features on that day, as in the store of the morning."""
    late = tmp_path / "features"
    shutil.copytree(given["features"], late)
    busiest = most_shown(given["events"])
    rows = pq.read_table(late / "item.parquet")
    index = rows.schema.get_field_index("event_timestamp")
    noon = pa.scalar(NOON, rows.schema.field(index).type)
    timestamps = pc.if_else(pc.equal(rows["item_id"], busiest), noon, rows["event_timestamp"])
    pq.write_table(rows.set_column(index, rows.schema.field(index), timestamps), late / "item.parquet")
    given |= {"features": late, "online": tmp_path / "morning.db"}
    fill(given)
    assert run(given)["checked"] == 20
    served = pq.read_table(given["out"] / SERVED)
    shown = served.filter(pc.equal(served["item_id"], busiest))
    assert max(shown["timestamp"].to_pylist()) > NOON
    assert set(shown["price"].to_pylist()) == {None}


def test_a_store_that_answers_otherwise_is_an_error(given: dict[str, Any]) -> None:
    """A sample of the rows is sent to a ranker on it: its answers have to be those in the file."""
    with contextlib.closing(sqlite3.connect(given["online"])) as connection:
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            connection.execute(f'delete from "{table}"')
        connection.commit()
    with pytest.raises(ReleaseError, match=r"online.db as of 2026-01-10 01:00: .* \d+ rows differ, by up to"):
        run(given)


def test_a_day_without_impressions_is_an_error(given: dict[str, Any]) -> None:
    """With the folder that is expected."""
    with pytest.raises(SourceError, match="no impressions of 2026-02-01: expected a folder day=2026-02-01"):
        run(given, day=date(2026, 2, 1))
