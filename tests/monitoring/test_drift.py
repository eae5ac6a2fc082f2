"""The drift command on a real model and window: verdict, exit status, files, and refusals that say what to do."""

import contextlib
import json
import math
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import ParameterError, SourceError
from common.paths import ROOT
from features.encoding.histograms import Histograms
from features.schema import newest_day
from models.model_folder import read_model
from monitoring.drift import days_of, drift, examine, rounded
from tests.support import tiny_project
from tests.support.drift_document import document


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project of 6,000 impressions in which 50 rows of a scenario are enough."""
    limits = {"drift__fewest_rows": 50}
    return tiny_project.build(tmp_path_factory.mktemp("project"), rows=6000, **limits)


def window(place: Path, path: Path, **changed: Any) -> Path:
    """The test rows of the project with other values in some columns."""
    table = pq.read_table(place / "data" / "training" / "test.parquet")
    for name, values in changed.items():
        column = pa.array(values(table[name].to_pylist()), table.schema.field(name).type, from_pandas=True)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)
    return path


def judged(place: Path, current: Path) -> dict[str, Any]:
    """The report on the window."""
    with contextlib.chdir(place):
        return examine(current, read_model(tiny_project.MODEL), tiny_project.MODEL, params.load().drift)


def command(place: Path, current: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """The command line of the README, in the project."""
    line = [
        sys.executable,
        "-m",
        "monitoring.drift",
        "--current",
        current,
        "--reference",
        tiny_project.MODEL,
        "--out",
        out,
    ]
    return subprocess.run(
        list(map(str, line)),
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_broken_column_is_named_in_every_scenario(place: Path, tmp_path: Path) -> None:
    """A price that is not delivered any more: missing, all scenarios, act; the other columns stay quiet."""
    found = judged(place, window(place, tmp_path / "now.parquet", price=lambda held: [None] * len(held)))
    first = found["findings"][0]
    assert (found["verdict"], first["kind"], first["column"], first["scenario"]) == ("act", "missing", "price", "all")
    assert "upstream" in found["next_step"]


def test_a_change_of_unit_is_told_from_other_shifts(place: Path, tmp_path: Path) -> None:
    """Prices in cents: a hundred times the mean and the spread."""
    cents = lambda held: [value and 100 * value for value in held]  # noqa: E731
    first = judged(place, window(place, tmp_path / "now.parquet", price=cents))["findings"][0]
    assert (first["kind"], first["column"]) == ("unit", "price")
    assert re.search(r"price in all scenarios is (9[5-9]|10[0-5])(\.\d)? times what it was", first["sentence"])


def test_histories_that_stand_still_are_named(place: Path, tmp_path: Path) -> None:
    """Not one clicked item of the last days in any history, missing ones apart: act, and a look at what writes them."""
    days = newest_day("user_recent_items")
    stopped = lambda held: [day and day - 2 for day in held]  # noqa: E731
    found = judged(place, window(place, tmp_path / "now.parquet", **{days: stopped}))
    first = found["findings"][0]
    assert (first["kind"], first["column"], first["scenario"]) == ("stale", "user_recent_items: age", "all")
    assert (found["verdict"], first["value"]) == ("act", 1.0)
    assert "Look at what writes user_recent_items" in found["next_step"]


def test_a_window_without_a_change_has_nothing_to_say_of_any_column(place: Path) -> None:
    """Nor of the mix and the labels, though counters grow from day to day and the log is only four days old."""
    findings = judged(place, Path("data/training/test.parquet"))["findings"]
    assert [found for found in findings if found["kind"] not in ("score", "calibration")] == []


def test_the_command_writes_its_files_and_tells_the_verdict_by_its_status(place: Path, tmp_path: Path) -> None:
    """0 ok, 1 watch, 2 act, 3 where there is no verdict; the last report stays where nothing new was written."""
    broken = window(place, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    done = command(place, broken, tmp_path / "drift")
    report = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert "act" in (tmp_path / "drift" / "index.html").read_text()
    assert (done.returncode, report["verdict"]) == (2, "act"), done.stderr
    assert report["current"]["source"] == "log"
    assert report["reference"]["tag"] == read_model(place / tiny_project.MODEL).tag
    before = (tmp_path / "drift" / "drift.json").read_bytes()
    absent = command(place, tmp_path / "absent.parquet", tmp_path / "drift")
    assert absent.returncode == 3
    assert "absent.parquet does not exist" in absent.stderr
    assert (tmp_path / "drift" / "drift.json").read_bytes() == before


def test_a_change_of_what_labels_mean_is_found_by_the_ranking(place: Path, tmp_path: Path) -> None:
    """As many clicks as ever, no column moved, but on what the model liked least: the ranking says so, for act."""
    table = pq.read_table(place / "data/training/test.parquet")
    for task in ("click", "order"):
        table = table.append_column(f"score_{task}", pa.array(0.4 - 0.1 * table[task].to_numpy()))
    pq.write_table(table, tmp_path / "now.parquet")
    found = judged(place, tmp_path / "now.parquet")
    feed = next(cell for cell in found["performance"] if (cell["scenario"], cell["task"]) == ("feed", "click"))
    assert (feed["auc"], feed["fall"], feed["verdict"]) == (0, feed["reference_auc"], "act")
    assert "ranking" in {one["kind"] for one in found["findings"] if one["task"] == "click"}
    assert not [one for one in found["findings"] if one["kind"] == "label_rate" or one["column"]]


def test_report_only_leaves_the_pipeline_running(place: Path, tmp_path: Path) -> None:
    """As a stage it reports; whoever reads it acts."""
    broken = window(place, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    with contextlib.chdir(place):
        status = drift(current=broken, reference=tiny_project.MODEL, out=tmp_path / "drift", report_only=True)
    assert status == 0


def test_the_same_window_is_the_same_report_to_the_byte(place: Path, tmp_path: Path) -> None:
    """drift.json holds no clock and no chance."""
    for name in ("first", "second"):
        with contextlib.chdir(place):
            drift(current=Path("data/training/test.parquet"), reference=tiny_project.MODEL, out=tmp_path / name)
    first, second = ((tmp_path / name / "drift.json").read_bytes() for name in ("first", "second"))
    assert first == second


def test_served_scores_are_taken_as_they_were_served(place: Path, tmp_path: Path) -> None:
    """Where the window has score_<task> the model is not asked again; missing labels are no labels."""
    table = pq.read_table(place / "data" / "training" / "test.parquet")
    for task in ("click", "order"):
        table = table.append_column(f"score_{task}", pa.array(np.full(len(table), 0.25)))
        place_of = table.column_names.index(task)
        table = table.set_column(place_of, task, pa.nulls(len(table), table.schema.field(task).type))
    pq.write_table(table, tmp_path / "served.parquet")
    found = judged(place, tmp_path / "served.parquet")
    assert found["current"]["source"] == "served"
    assert found["current"]["labelled_rows"] == 0
    assert all(entry["ratio"] is None for entry in found["scores"])
    assert all(entry["auc"] is None for entry in found["performance"])


def test_a_day_of_the_log_is_a_window(place: Path) -> None:
    """Of all the files of the training set, the rows of one day; both ends have to be named, in order."""
    with contextlib.chdir(place):
        day = date(2026, 1, 9)
        found = examine(
            Path("data/training/*.parquet"),
            read_model(tiny_project.MODEL),
            tiny_project.MODEL,
            params.load().drift,
            days=(day, day),
        )
        rows = pq.read_table("data/training/valid.parquet")["timestamp"].to_numpy().astype("datetime64[D]")
    assert found["current"]["first_day"] == found["current"]["last_day"] == "2026-01-09"
    assert found["current"]["rows"] == (rows == np.datetime64("2026-01-09")).sum()
    with pytest.raises(ParameterError, match="expected both, in this order"):
        days_of(date(2026, 1, 9), None)


def test_the_document_that_the_page_is_tested_with_is_such_a_report(place: Path, tmp_path: Path) -> None:
    """No section, entry or cell of it has a key that a real report lacks, and every statistic has its limits."""
    broken = window(place, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    real, made = judged(place, broken), document(columns=4)
    assert made.keys() - real.keys() == {"quality"}
    for name in ("reference", "current", "limits", "mix"):
        assert made[name].keys() <= real[name].keys()
    for name in ("findings", "columns", "labels", "scores", "performance"):
        assert made[name][0].keys() <= real[name][0].keys()
    cells = (report["columns"][0]["scenarios"].values() for report in (made, real))
    assert next(iter(next(cells))).keys() <= next(iter(next(cells))).keys()
    assert {f"{finding['statistic']}_watch" for finding in real["findings"]} <= made["limits"].keys()


def test_great_expectations_says_the_same(place: Path, tmp_path: Path) -> None:
    """A column to be acted upon breaks a critical expectation and names the column; Data Docs show it."""
    broken = window(place, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    with contextlib.chdir(place):
        drift(current=broken, reference=tiny_project.MODEL, out=tmp_path / "drift", report_only=True)
    table = json.loads((tmp_path / "drift" / "expectations.json").read_text())["tables"]["statistics"]
    critical = {fault["rule"]: fault for fault in table["failed"] if fault["severity"] == "critical"}
    assert not table["passed"]
    assert "price/feed" in {example["of"] for example in critical["missing to act"]["examples"]}
    assert (tmp_path / "drift" / "expectations" / "index.html").is_file()


def test_only_some_rows_of_a_large_window_are_scored(place: Path, tmp_path: Path) -> None:
    """By their event id, also where there is none yet; the histograms are of all rows."""
    current = Path("data/training/test.parquet")
    with contextlib.chdir(place):
        few = params.load().drift.model_copy(update={"scored_rows": 200})
        found = examine(current, read_model(tiny_project.MODEL), tiny_project.MODEL, few)
        whole = pq.read_metadata(current).num_rows
        nobody_came = window(place, tmp_path / "now.parquet", event_id=lambda held: [None] * len(held))
        served = examine(nobody_came, read_model(tiny_project.MODEL), tiny_project.MODEL, few)
    for report in (found, served):
        assert 100 < report["current"]["scored_rows"] < 300
        assert report["current"]["rows"] == whole


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "cannot be read as Parquet"), (b"not parquet", "cannot be read as Parquet")]
)
def test_what_is_no_window_is_refused_by_name(place: Path, tmp_path: Path, content: bytes, words: str) -> None:
    """An empty or foreign file is named, with what was expected."""
    (tmp_path / "now.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=words):
        judged(place, tmp_path / "now.parquet")


def test_a_window_of_another_schema_is_refused(place: Path, tmp_path: Path) -> None:
    """Columns that the model was trained on and that are not there are listed."""
    table = pq.read_table(place / "data" / "training" / "test.parquet").drop_columns(["price"])
    pq.write_table(table, tmp_path / "now.parquet")
    with pytest.raises(SourceError, match="price"):
        judged(place, tmp_path / "now.parquet")


def test_the_model_folder_carries_its_reference(place: Path, tmp_path: Path) -> None:
    """A copy of the folder elsewhere judges the same window by the same histograms."""
    shutil.copytree(place / tiny_project.MODEL, tmp_path / "model")
    kept = Histograms.read(tmp_path / "model" / "reference.json")
    assert kept.rows.sum() == pq.read_metadata(place / "data" / "training" / "train.parquet").num_rows


def test_a_band_without_end_is_null_in_the_report() -> None:
    """JSON knows no infinity; what is not known is null, and the page says that it is absent."""
    assert rounded({"noise": math.inf, "psi": [0.123456789]}) == {"noise": None, "psi": [0.123457]}
