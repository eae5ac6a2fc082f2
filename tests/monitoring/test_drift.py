"""The drift stage on a real model and window: verdict, exit status, files, and errors with the next step."""

import contextlib
import json
import math
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import ParameterError, SourceError
from features.encoding.histograms import Histograms
from features.schema import newest_day
from models.model_folder import read_model
from monitoring.detection.drift_report import days_of, report_on, rounded
from monitoring.drift import drift
from tests.support import tiny_project
from tests.support.drift_document import document
from tests.support.run_module import run_module

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project of 6,000 impressions in which 50 rows of a scenario are enough."""
    limits = {"drift__fewest_rows": 50}
    return tiny_project.build(tmp_path_factory.mktemp("project"), rows=6000, **limits)


def window(root: Path, path: Path, **changed: Any) -> Path:
    """The test rows of the project with other values in some columns."""
    table = pq.read_table(root / "data" / "training" / "test.parquet")
    for name, values in changed.items():
        column = pa.array(values(table[name].to_pylist()), table.schema.field(name).type, from_pandas=True)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)
    return path


def evaluated(root: Path, current: Path) -> dict[str, Any]:
    """The report on the window."""
    with contextlib.chdir(root):
        return report_on(current, read_model(tiny_project.MODEL), tiny_project.MODEL, params.load().drift)


def command(root: Path, current: Path, out: Path) -> int:
    """The exit status of the command of the README, in the project."""
    with contextlib.chdir(root):
        return run_module("monitoring.drift", "--current", current, "--reference", tiny_project.MODEL, "--out", out)


def test_a_broken_column_is_named_in_every_scenario(root: Path, tmp_path: Path) -> None:
    """A price that is no longer delivered: missing, in all scenarios, act; the other columns are ok."""
    report = evaluated(root, window(root, tmp_path / "now.parquet", price=lambda held: [None] * len(held)))
    first = report["findings"][0]
    assert (report["verdict"], first["kind"], first["column"], first["scenario"]) == ("act", "missing", "price", "all")
    assert "upstream" in report["next_step"]


def test_a_change_of_unit_is_distinguished_from_other_shifts(root: Path, tmp_path: Path) -> None:
    """Prices in cents: a hundred times the mean and the spread."""
    cents = lambda held: [value and 100 * value for value in held]  # noqa: E731
    first = evaluated(root, window(root, tmp_path / "now.parquet", price=cents))["findings"][0]
    assert (first["kind"], first["column"]) == ("unit", "price")
    assert re.search(r"price in all scenarios is (9[5-9]|10[0-5])(\.\d)? times what it was", first["sentence"])


def test_outdated_histories_are_named(root: Path, tmp_path: Path) -> None:
    """Not one clicked item of the last days in any history: the level is act, the next step is the writer of them."""
    days = newest_day("user_recent_items")
    stopped = lambda held: [day and day - 2 for day in held]  # noqa: E731
    report = evaluated(root, window(root, tmp_path / "now.parquet", **{days: stopped}))
    first = report["findings"][0]
    assert (first["kind"], first["column"], first["scenario"]) == ("outdated", "user_recent_items: age", "all")
    assert (report["verdict"], first["value"]) == ("act", 1.0)
    assert "Check upstream what writes user_recent_items." in report["next_step"]


def test_a_window_without_a_change_has_no_finding_of_a_column(root: Path) -> None:
    """Nor of the mix and the labels, although counters grow from day to day and the log has only four days."""
    findings = evaluated(root, Path("data/training/test.parquet"))["findings"]
    assert [finding for finding in findings if finding["kind"] not in ("score", "calibration")] == []


def test_the_exit_status_of_the_command_is_the_verdict(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 ok, 10 watch, 11 act, 3 where there is no verdict, and then no report of an earlier run."""
    broken = window(root, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    status = command(root, broken, tmp_path / "drift")
    report = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert "act" in (tmp_path / "drift" / "index.html").read_text()
    assert (status, report["verdict"]) == (11, "act"), capsys.readouterr().err
    assert report["current"]["source"] == "log"
    assert report["reference"]["tag"] == read_model(root / tiny_project.MODEL).tag
    assert report["run"]["data"] == report["current"]["sha256"]
    assert report["run"]["id"] in (tmp_path / "drift" / "index.html").read_text()
    assert command(root, tmp_path / "absent.parquet", tmp_path / "drift") == 3
    assert "absent.parquet does not exist" in capsys.readouterr().err
    assert not [name for name in ("drift.json", "index.html") if (tmp_path / "drift" / name).exists()]


def test_a_change_of_the_labels_lowers_the_auc(root: Path, tmp_path: Path) -> None:
    """The click rate and the columns are unchanged, but the clicks are on the lowest scores: the AUC falls, act."""
    table = pq.read_table(root / "data/training/test.parquet")
    for task in ("click", "order"):
        table = table.append_column(f"score_{task}", pa.array(0.4 - 0.1 * table[task].to_numpy()))
    pq.write_table(table, tmp_path / "now.parquet")
    report = evaluated(root, tmp_path / "now.parquet")
    feed = next(cell for cell in report["performance"] if (cell["scenario"], cell["task"]) == ("feed", "click"))
    assert (feed["auc"], feed["fall"], feed["verdict"]) == (0, feed["reference_auc"], "act")
    assert "ranking" in {one["kind"] for one in report["findings"] if one["task"] == "click"}
    assert not [one for one in report["findings"] if one["kind"] == "label_rate" or one["column"]]


def test_report_only_leaves_the_pipeline_running(root: Path, tmp_path: Path) -> None:
    """In the pipeline the stage ends with status 0 for every verdict."""
    broken = window(root, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    with contextlib.chdir(root):
        status = drift(current=broken, reference=tiny_project.MODEL, out=tmp_path / "drift", report_only=True)
    assert status == 0


def test_the_same_window_is_the_same_report_to_the_byte(root: Path, tmp_path: Path) -> None:
    """As an output of DVC (`--report-only`), drift.json depends neither on time nor on chance."""
    for name in ("first", "second"):
        with contextlib.chdir(root):
            drift(
                current=Path("data/training/test.parquet"),
                reference=tiny_project.MODEL,
                out=tmp_path / name,
                report_only=True,
            )
    first, second = ((tmp_path / name / "drift.json").read_bytes() for name in ("first", "second"))
    assert first == second


def test_served_scores_are_taken_as_they_were_served(root: Path, tmp_path: Path) -> None:
    """Where the window has score_<task> the model does not score it again; missing labels are no labels."""
    table = pq.read_table(root / "data" / "training" / "test.parquet")
    for task in ("click", "order"):
        table = table.append_column(f"score_{task}", pa.array(np.full(len(table), 0.25)))
        index = table.column_names.index(task)
        table = table.set_column(index, task, pa.nulls(len(table), table.schema.field(task).type))
    pq.write_table(table, tmp_path / "served.parquet")
    report = evaluated(root, tmp_path / "served.parquet")
    assert report["current"]["source"] == "served"
    assert report["current"]["labelled_rows"] == 0
    assert all(entry["ratio"] is None for entry in report["scores"])
    assert all(entry["auc"] is None for entry in report["performance"])


def test_a_day_of_the_log_is_a_window(root: Path) -> None:
    """Of all the files of the training set, the rows of one day; both ends must be given, in order."""
    with contextlib.chdir(root):
        day = date(2026, 1, 9)
        report = report_on(
            Path("data/training/*.parquet"),
            read_model(tiny_project.MODEL),
            tiny_project.MODEL,
            params.load().drift,
            days=(day, day),
        )
        rows = pq.read_table("data/training/valid.parquet")["timestamp"].to_numpy().astype("datetime64[D]")
    assert report["current"]["first_day"] == report["current"]["last_day"] == "2026-01-09"
    assert report["current"]["rows"] == (rows == np.datetime64("2026-01-09")).sum()
    with pytest.raises(ParameterError, match="expected both, in this order"):
        days_of(date(2026, 1, 9), None)


def test_the_test_document_of_the_page_has_the_keys_of_a_report(root: Path, tmp_path: Path) -> None:
    """No section, entry or cell of it has a key that a real report lacks; every statistic has its limits."""
    broken = window(root, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    real, made = evaluated(root, broken), document(columns=4)
    assert made.keys() - real.keys() == {"quality"}
    for name in ("reference", "current", "limits", "mix"):
        assert made[name].keys() <= real[name].keys()
    for name in ("findings", "columns", "labels", "scores", "performance"):
        assert made[name][0].keys() <= real[name][0].keys()
    cells = (report["columns"][0]["scenarios"].values() for report in (made, real))
    assert next(iter(next(cells))).keys() <= next(iter(next(cells))).keys()
    assert {f"{finding['statistic']}_watch" for finding in real["findings"]} <= made["limits"].keys()


def test_great_expectations_has_the_same_result(root: Path, tmp_path: Path) -> None:
    """A column with the level act breaks a critical expectation, with its name as an example; Data Docs show it."""
    broken = window(root, tmp_path / "now.parquet", price=lambda held: [None] * len(held))
    with contextlib.chdir(root):
        drift(current=broken, reference=tiny_project.MODEL, out=tmp_path / "drift", report_only=True)
    table = json.loads((tmp_path / "drift" / "expectations.json").read_text())["tables"]["statistics"]
    critical = {fault["rule"]: fault for fault in table["failed"] if fault["severity"] == "critical"}
    assert not table["passed"]
    assert "price/feed" in {example["of"] for example in critical["missing to act"]["examples"]}
    assert (tmp_path / "drift" / "expectations" / "index.html").is_file()


def test_only_some_rows_of_a_large_window_are_scored(root: Path, tmp_path: Path) -> None:
    """By their event id, also where there is none yet; the histograms are those of all rows."""
    current = Path("data/training/test.parquet")
    with contextlib.chdir(root):
        few = params.load().drift.model_copy(update={"scored_rows": 200})
        scored = report_on(current, read_model(tiny_project.MODEL), tiny_project.MODEL, few)
        whole = pq.read_metadata(current).num_rows
        no_events = window(root, tmp_path / "now.parquet", event_id=lambda held: [None] * len(held))
        served = report_on(no_events, read_model(tiny_project.MODEL), tiny_project.MODEL, few)
    for report in (scored, served):
        assert 100 < report["current"]["scored_rows"] < 300
        assert report["current"]["rows"] == whole


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "cannot be read as Parquet"), (b"not parquet", "cannot be read as Parquet")]
)
def test_a_file_that_is_no_window_is_refused_by_name(root: Path, tmp_path: Path, content: bytes, words: str) -> None:
    """An empty file and one of another format are named in the error."""
    (tmp_path / "now.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=words):
        evaluated(root, tmp_path / "now.parquet")


def test_a_window_of_another_schema_is_refused(root: Path, tmp_path: Path) -> None:
    """Missing columns that the model was trained on are listed."""
    table = pq.read_table(root / "data" / "training" / "test.parquet").drop_columns(["price"])
    pq.write_table(table, tmp_path / "now.parquet")
    with pytest.raises(SourceError, match="price"):
        evaluated(root, tmp_path / "now.parquet")


def test_the_model_folder_carries_its_reference(root: Path, tmp_path: Path) -> None:
    """A copy of the folder has the histograms of all training rows."""
    shutil.copytree(root / tiny_project.MODEL, tmp_path / "model")
    kept = Histograms.read(tmp_path / "model" / "reference.json")
    assert kept.rows.sum() == pq.read_metadata(root / "data" / "training" / "train.parquet").num_rows


def test_an_infinite_band_is_null_in_the_report() -> None:
    """JSON has no infinity: an infinite number is null, which the page shows as a dash."""
    assert rounded({"noise": math.inf, "psi": [0.123456789]}) == {"noise": None, "psi": [0.123457]}
