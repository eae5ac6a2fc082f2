"""A day of the log as the service would have answered it: the same probabilities, in the columns of a served window."""

import contextlib
import json
import sqlite3
from datetime import date, datetime
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import pyarrow.parquet as pq
import pytest
import world

from errors import ReleaseError, SourceError
from features.refresh import refresh
from models.folder import read_model
from models.hits import probabilities_of
from serving.comparison import score
from serving.replay import FIGURES, SERVED, replay

DAY = date(2026, 1, 10)  # the last of the tiny world
MORNING = datetime(2026, 1, 10, 1)  # its statistics are known an hour after midnight


@pytest.fixture
def given(project: Path, tmp_path: Path) -> dict[str, Any]:
    """The morning of the last day: what `replay` is given, with an online store that holds what was known then."""
    data = project / "data"
    world.write_params(tmp_path, release__sample=20)
    with contextlib.chdir(tmp_path):
        refresh(
            schema=data / "schema.json", features=data / "features", online=tmp_path / "online.db", as_of=MORNING,
            out=tmp_path / "refreshed",
        )  # fmt: skip
    return {
        "day": DAY, "events": data / "validated/events", "schema": data / "schema.json", "features": data / "features",
        "online": tmp_path / "online.db", "moment": MORNING,
        "model": project / artifacts.MODEL, "frozen": project / artifacts.MODEL, "out": tmp_path / "out",
    }  # fmt: skip


def run(given: dict[str, Any], **chosen: Any) -> dict[str, Any]:
    """The figures of a replay."""
    with contextlib.chdir(given["out"].parent):
        replay(**given | chosen)
    found: dict[str, Any] = json.loads((given["out"] / FIGURES).read_text())
    return found


def test_the_rows_are_those_of_the_day_with_what_the_model_says(given: dict[str, Any], project: Path) -> None:
    """Features as of each impression, as the training set has them; probabilities of the model of the day."""
    figures = run(given)
    served, model = pq.read_table(given["out"] / SERVED), read_model(project / artifacts.MODEL)
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
