"""The gate: broken rows step aside, the rest goes on, and beyond the tolerance nothing does."""

import contextlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import ValidationError
from features import validate
from features.quality import expectations, partitions
from features.schema import Schema, to_json
from tests.support import world
from tests.support.rich_world import (
    ROWS,
    as_text,
    digests,
    examine,
    failed,
    judge_broken_rows,
    read,
    rich_schema,
    rich_tables,
    write,
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """One run over valid tables with every broken row appended: folder and verdicts."""
    folder = tmp_path_factory.mktemp("judged")
    return folder, judge_broken_rows(folder)


def run(folder: Path, schema: Schema, **changes: object) -> dict:
    """The stage itself in `folder`; returns its report."""
    (folder / "schema.json").write_text(to_json(schema))
    world.write_params(folder, **changes)
    names = {"schema": "schema.json", "ingested": "ingested", "out": "validated", "quarantine": "quarantine"}
    places = {key: Path(name) for key, name in names.items()}
    with contextlib.chdir(folder):
        validate.validate(**places, report=Path("reports/validation.json"), docs=Path("reports/validation"))
    return json.loads((folder / "reports/validation.json").read_text())


def test_valid_world_passes_whole(tmp_path):
    """A valid world goes on as it came, to the row; quarantine is there and empty."""
    write(tmp_path / "ingested", rich_tables())
    verdicts = examine(tmp_path, rich_schema())
    assert not failed(verdicts)
    for name, verdict in verdicts.items():
        assert verdict.passed
        assert verdict.rows == len(read(tmp_path / "ingested", name))
        assert read(tmp_path / "out", name) == read(tmp_path / "ingested", name)
        aside = pq.read_table(tmp_path / "quarantine" / f"{name}.parquet")
        assert (aside.column_names[-1], aside.num_rows) == ("reasons", 0)


def test_the_rest_goes_on(judged):
    """Beside the broken rows every row goes on, in its order: accepted and quarantined rows make up the input."""
    for name, verdict in judged[1].items():
        aside = pq.read_table(judged[0] / "quarantine" / f"{name}.parquet").drop_columns("reasons").to_pylist()
        kept, came = read(judged[0] / "out", name), read(judged[0] / "ingested", name)
        assert (verdict.rows, verdict.quarantined) == (len(came), len(aside))
        assert sorted(map(as_text, kept + aside)) == sorted(map(as_text, came))
        away = set(map(as_text, aside))
        assert kept == [row for row in came if as_text(row) not in away]


def test_examples_name_the_broken_rows(judged):
    """The report of a rule counts its rows and shows the first ones: their id and the columns at fault."""
    report = judged[1]["events"].report()
    hour = next(fault for fault in report["failed"] if fault["rule"] == "hour out of bounds")
    cases = [case for case in ROWS if case.rule == hour["rule"]]
    assert hour["severity"] == "critical"
    assert (hour["column"], hour["broken"]) == ("hour", len(cases))
    assert hour["examples"] == [{name: case.rows[0][name] for name in ("event_id", "hour")} for case in cases]


@pytest.mark.parametrize("table", expectations.TABLES)
def test_an_absent_table_has_the_wrong_columns(tmp_path, table):
    """A table without a file is a broken table, not a crash."""
    write(tmp_path / "ingested", rich_tables(rows=60))
    for path in partitions.files(tmp_path / "ingested", table):
        path.unlink()
    assert failed(examine(tmp_path, rich_schema())) == {(table, "wrong columns")}


def test_one_file_of_another_type_is_found_among_many(tmp_path):
    """Types are those of each file, not of the first one."""
    tables = rich_tables()
    write(tmp_path / "ingested", tables)
    last = partitions.files(tmp_path / "ingested", "events")[-1]
    rows = pq.ParquetFile(last).read()
    place = rows.column_names.index("hour")
    pq.write_table(rows.set_column(place, "hour", rows["hour"].cast(pa.string())), last)
    verdicts = examine(tmp_path, rich_schema())
    assert failed(verdicts) == {("events", "hour of another type")}
    assert verdicts["events"].failed[0].examples == [{"observed": ["string"]}]


def test_ids_are_unique_across_batches(tmp_path):
    """Two rows with one event id are found though they never meet in a batch; both go to quarantine."""
    tables = rich_tables()
    ids = tables["events"]["event_id"].to_pylist()
    ids[-1] = ids[0]
    tables["events"] = tables["events"].set_column(0, "event_id", pa.array(ids))
    write(tmp_path / "ingested", tables)
    verdicts = examine(tmp_path, rich_schema(), batch_rows=50)
    assert verdicts["events"].quarantined == 2
    assert failed(verdicts) == {("events", "repeated event_id")}


def test_events_of_a_quarantined_user_follow(tmp_path):
    """Whoever is in quarantine is unknown to the events: no event goes on without its user."""
    tables = rich_tables()
    levels = [9, *tables["users"]["level"].to_pylist()[1:]]
    tables["users"] = tables["users"].set_column(3, "level", pa.array(levels))
    write(tmp_path / "ingested", tables)
    verdicts = examine(tmp_path, rich_schema())
    first = tables["users"]["user_id"][0].as_py()
    aside = pq.read_table(tmp_path / "quarantine/events.parquet").to_pylist()
    assert failed(verdicts) == {("users", "level outside its values"), ("events", "unknown user")}
    assert {(row["user_id"], *row["reasons"]) for row in aside} == {(first, "unknown user")}
    assert first not in {row["user_id"] for row in read(tmp_path / "out", "events")}


def test_beyond_tolerance_the_gate_closes_and_says_why(tmp_path):
    """Too many broken rows: ValidationError names rule, count, example and what to do; report and pages are there."""
    tables = rich_tables()
    hours = [99] * 8 + tables["events"]["hour"].to_pylist()[8:]
    tables["events"] = tables["events"].set_column(5, "hour", pa.array(hours))
    before = digests(write(tmp_path / "ingested", tables))
    with pytest.raises(ValidationError) as caught:
        run(tmp_path, rich_schema(), validate__tolerance=0.01)
    told = str(caught.value)
    for part in ("events: 8 of 400", "2.00%, tolerance 1.00%", "hour out of bounds: 8 rows", '"hour": 99'):
        assert part in told
    for place in ("reports/validation.json", "reports/validation/index.html", "quarantine", "validate.tolerance"):
        assert place in told
    report = json.loads((tmp_path / "reports/validation.json").read_text())
    assert (report["passed"], report["tables"]["events"]["quarantined"]) == (False, 8)
    assert "The gate is closed" in (tmp_path / "reports/validation/index.html").read_text()
    assert not (tmp_path / "validated").exists()
    assert pq.read_metadata(tmp_path / "quarantine/events.parquet").num_rows == 8
    assert digests(tmp_path / "ingested") == before


@pytest.mark.parametrize(("last", "away"), [("2026-01-08", True), ("2026-01-10", False), (None, False)])
def test_no_event_lies_after_the_last_day(tmp_path, last, away):
    """validate.not_after is a day and belongs to the log as a whole; later events go to quarantine."""
    write(tmp_path / "ingested", rich_tables())
    report = run(tmp_path, rich_schema(), validate__tolerance=0.9, validate__not_after=last)
    aside = pq.read_table(tmp_path / "quarantine/events.parquet").to_pylist()
    assert {reason for row in aside for reason in row["reasons"]} == ({"timestamp out of bounds"} if away else set())
    days = {str(row["timestamp"].date()) for row in read(tmp_path / "validated", "events")}
    assert max(days) == ("2026-01-08" if away else "2026-01-10")
    assert report["tables"]["events"]["quarantined"] == len(aside)


def test_within_tolerance_it_goes_on(tmp_path):
    """A share of broken rows up to the tolerance is set aside, and the rest goes on."""
    tables = rich_tables()
    hours = [99] * 4 + tables["events"]["hour"].to_pylist()[4:]
    tables["events"] = tables["events"].set_column(5, "hour", pa.array(hours))
    write(tmp_path / "ingested", tables)
    report = run(tmp_path, rich_schema(), validate__tolerance=0.01)
    events = report["tables"]["events"]
    assert report["passed"]
    assert (events["rows"], events["quarantined"], events["share"], events["tolerance"]) == (400, 4, 0.01, 0.01)
    assert len(read(tmp_path / "validated", "events")) == 396


def test_a_broken_table_closes_the_gate_with_a_report(tmp_path):
    """A table without rows stops the line, and the report and the pages are written first."""
    tables = rich_tables(rows=60)
    write(tmp_path / "ingested", tables | {"items": tables["items"].slice(0, 0)})
    with pytest.raises(ValidationError, match="no rows: expected: items has at least one row"):
        run(tmp_path, rich_schema())
    report = json.loads((tmp_path / "reports/validation.json").read_text())
    assert [fault["rule"] for fault in report["tables"]["items"]["failed"]] == ["no rows"]
    assert (tmp_path / "reports/validation/index.html").is_file()
