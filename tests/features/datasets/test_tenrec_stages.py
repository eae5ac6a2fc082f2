"""The first stages on a file of Tenrec: every row that is read passes the quality gate."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from features import datasets
from features.datasets import tenrec
from features.ingest import ingest
from features.validate import validate
from tests.support import world
from tests.support.tenrec_file import dataset, many, write

pytestmark = pytest.mark.integration


@pytest.fixture
def stages(tmp_path, monkeypatch) -> Callable[..., tuple[dict, dict]]:
    """Runs ingest and validate on a file of the test; returns the counts and the report."""
    monkeypatch.chdir(tmp_path)

    def run(rows: str, **changes: object) -> tuple[dict, dict]:
        write(tmp_path, rows)
        world.write_params(tmp_path)
        source = dataset(tmp_path, **changes)
        monkeypatch.setattr(datasets, "read", lambda _: tenrec.read(source))
        ingest(schema=Path("schema.json"), out=Path("ingested"), truth=Path("truth"))
        folders = {name: Path(name) for name in ("ingested", "quarantine")} | {"out": Path("validated")}
        report = Path("report.json")
        validate(schema=Path("schema.json"), **folders, report=report, docs=Path("docs"))
        return json.loads(Path("ingested/counts.json").read_text()), json.loads(report.read_text())

    return run


@pytest.mark.parametrize(("scenario", "values"), [("video_category", ["0", "1", "missing"]), ("age", ["0", "1", "2"])])
def test_it_passes_the_quality_gate(stages, scenario, values):
    """The ingested file meets every expectation, row by row; no repeated row is dropped."""
    counts, report = stages(many(), negatives_per_click=2.0, scenario=scenario, scenarios=values)
    assert report["passed"]
    assert {name: table["quarantined"] for name, table in report["tables"].items()} == {
        "users": 0,
        "items": 0,
        "events": 0,
    }
    assert counts["repeated_rows"] == 0
    assert counts["rows_read"] == counts["rows_written"] + sum(counts["left_out"].values()) == 3000
