"""Stage validate: within the tolerance broken rows go to quarantine, beyond it nothing is accepted."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import ValidationError
from features.schema import Column, DType, Role, Schema, to_json
from features.validate import validate
from tests.support import world
from tests.support.rich_world import digests, read, rich_schema, rich_tables, write

pytestmark = pytest.mark.integration


def run(folder: Path, schema: Schema, **changes: object) -> dict:
    """Run the stage in `folder`; returns its report."""
    (folder / "schema.json").write_text(to_json(schema))
    world.write_params(folder, **changes)
    names = {"schema": "schema.json", "ingested": "ingested", "out": "validated", "quarantine": "quarantine"}
    folders = {key: Path(name) for key, name in names.items()}
    with contextlib.chdir(folder):
        validate(**folders, report=Path("reports/validation.json"), docs=Path("reports/validation"))
    return json.loads((folder / "reports/validation.json").read_text())


def test_beyond_the_tolerance_the_quality_gate_closes_with_the_reasons(tmp_path):
    """Too many broken rows: ValidationError names rule, count, example and what to do; report and pages are written."""
    tables = rich_tables()
    hours = [99] * 8 + tables["events"]["hour"].to_pylist()[8:]
    tables["events"] = tables["events"].set_column(5, "hour", pa.array(hours))
    before = digests(write(tmp_path / "ingested", tables))
    with pytest.raises(ValidationError) as caught:
        run(tmp_path, rich_schema(), validate__tolerance=0.01)
    message = str(caught.value)
    for part in ("events: 8 of 400", "2.00%, tolerance 1.00%", "hour out of bounds: 8 rows", '"hour": 99'):
        assert part in message
    for part in ("reports/validation.json", "reports/validation/index.html", "quarantine", "validate.tolerance"):
        assert part in message
    report = json.loads((tmp_path / "reports/validation.json").read_text())
    assert (report["passed"], report["tables"]["events"]["quarantined"]) == (False, 8)
    assert "The quality gate is closed" in (tmp_path / "reports/validation/index.html").read_text()
    assert not (tmp_path / "validated").exists()
    assert pq.read_metadata(tmp_path / "quarantine/events.parquet").num_rows == 8
    assert digests(tmp_path / "ingested") == before


@pytest.mark.parametrize(("last", "removed"), [("2026-01-08", True), ("2026-01-10", False), (None, False)])
def test_no_event_lies_after_the_last_day(tmp_path, last, removed):
    """The day validate.not_after is the last one of the log; later events go to quarantine."""
    write(tmp_path / "ingested", rich_tables())
    report = run(tmp_path, rich_schema(), validate__tolerance=0.9, validate__not_after=last)
    rejected = pq.read_table(tmp_path / "quarantine/events.parquet").to_pylist()
    assert {reason for row in rejected for reason in row["reasons"]} == (
        {"timestamp out of bounds"} if removed else set()
    )
    days = {str(row["timestamp"].date()) for row in read(tmp_path / "validated", "events")}
    assert max(days) == ("2026-01-08" if removed else "2026-01-10")
    assert report["tables"]["events"]["quarantined"] == len(rejected)


def test_within_the_tolerance_the_other_rows_are_accepted(tmp_path):
    """A share of broken rows up to the tolerance goes to quarantine, and the other rows are accepted."""
    tables = rich_tables()
    hours = [99] * 4 + tables["events"]["hour"].to_pylist()[4:]
    tables["events"] = tables["events"].set_column(5, "hour", pa.array(hours))
    write(tmp_path / "ingested", tables)
    report = run(tmp_path, rich_schema(), validate__tolerance=0.01)
    events = report["tables"]["events"]
    assert report["passed"]
    assert (events["rows"], events["quarantined"], events["share"], events["tolerance"]) == (400, 4, 0.01, 0.01)
    assert len(read(tmp_path / "validated", "events")) == 396


def test_a_broken_table_closes_the_quality_gate_with_a_report(tmp_path):
    """A table without rows is an error; report and pages are written before it is raised."""
    tables = rich_tables(rows=60)
    write(tmp_path / "ingested", tables | {"items": tables["items"].slice(0, 0)})
    with pytest.raises(ValidationError, match="no rows: expected: items has at least one row"):
        run(tmp_path, rich_schema())
    report = json.loads((tmp_path / "reports/validation.json").read_text())
    assert [fault["rule"] for fault in report["tables"]["items"]["failed"]] == ["no rows"]
    assert (tmp_path / "reports/validation/index.html").is_file()


def test_weights_that_are_no_weights_go_to_quarantine(tmp_path):
    """Not a number, missing, infinite or negative: each with its event and rule; 0 is a weight."""
    tables, schema = rich_tables(), rich_schema()
    wrong = {3: float("nan"), 5: None, 8: float("inf"), 13: -0.5}
    weights = [wrong.get(row, row % 2) for row in range(400)]
    tables["events"] = tables["events"].append_column("w", pa.array(weights, pa.float32()))
    weight = Column(name="w", role=Role.WEIGHT, dtype=DType.FLOAT32)
    write(tmp_path / "ingested", tables)
    run(tmp_path, dataclasses.replace(schema, events=(*schema.events, weight)), validate__tolerance=0.02)
    reasons = {
        row["event_id"]: row["reasons"] for row in pq.read_table(tmp_path / "quarantine/events.parquet").to_pylist()
    }
    assert reasons == {3: ["w missing"], 5: ["w missing"], 8: ["w out of bounds"], 13: ["w out of bounds"]}
    assert len(read(tmp_path / "validated", "events")) == 396
