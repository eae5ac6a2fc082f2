"""What the quality gates share: rules on measurements; a critical rule closes a gate; pages need no network."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from common.errors import ValidationError
from features.quality import gate
from features.quality.datadocs import QualityGate
from features.quality.gate import Measurements, SuiteResult
from features.quality.results import Outcome, quiet_context
from features.quality.rule import expect_equal, expect_zero
from tests.support.rich_world import digests

pytestmark = pytest.mark.integration

GATE = QualityGate(name="some", title="Some gate", remedy="Repair it.")
RULES = (expect_zero("faults", ["first"], "No <fault>"), expect_equal("rows lost", "rows", "Every row is there"))


def measurements(*faults: int, lost: int = 0, rules: tuple = RULES) -> Measurements:
    """One measurement per number of faults."""
    rows = {
        "part": [f"p{i}" for i in range(len(faults))],
        "faults": faults,
        "first": ["<b>17</b>"] * len(faults),
        "rows": [9 - lost] * len(faults),
        "wanted rows": [9] * len(faults),
    }
    return Measurements(key="part", rows=pa.table(rows), rules=rules)


def suite(*faults: int, lost: int = 0, rules: tuple = RULES) -> SuiteResult:
    """The outcomes on such measurements."""
    return SuiteResult(
        name="part", rows=9, outcomes=gate.evaluate(quiet_context(), measurements(*faults, lost=lost, rules=rules))
    )


def enforce(folder: Path, suite: SuiteResult) -> dict:
    """Report and pages under `folder`; returns the report."""
    gate.enforce(GATE, [suite], name="tiny", report=folder / "r.json", docs=folder / "docs")
    return json.loads((folder / "r.json").read_text())


def with_warnings(result: SuiteResult) -> SuiteResult:
    """The same outcomes, as if every rule had the severity warning."""
    lenient = [
        Outcome(**{**vars(o), "rule": type(o.rule)(**{**vars(o.rule), "severity": "warning"})}) for o in result.outcomes
    ]
    return SuiteResult(name=result.name, rows=result.rows, outcomes=lenient)


def test_every_measurement_that_breaks_a_rule_is_an_example() -> None:
    """Two of three measurements are at fault; each is an example with its key and the columns that show the fault."""
    (fault,) = suite(0, 2, 5).failed
    assert fault.examples == [
        {"part": "p1", "faults": 2, "first": "<b>17</b>"},
        {"part": "p2", "faults": 5, "first": "<b>17</b>"},
    ]
    assert [outcome.rule.name for outcome in suite(0, lost=1).failed] == ["rows lost"]


def test_a_gate_closes_on_a_critical_rule(tmp_path: Path) -> None:
    """A broken critical rule raises, after report and pages were written; a warning is in both and does not raise."""
    with pytest.raises(ValidationError, match=r"(?s)part: faults: expected: No <fault>; found e\.g\. .*Repair it\."):
        enforce(tmp_path, suite(3))
    assert not json.loads((tmp_path / "r.json").read_text())["passed"]
    report = enforce(tmp_path / "lenient", with_warnings(suite(3)))
    assert report["passed"]
    assert [fault["rule"] for fault in report["tables"]["part"]["failed"]] == ["faults"]


def test_a_new_rule_that_holds_leaves_the_report_as_it_was(tmp_path: Path) -> None:
    """The report is a dependency of training: it changes with the faults, not with the number of rules."""
    enforce(tmp_path / "few", suite(0, rules=RULES[:1]))
    enforce(tmp_path / "many", suite(0))
    assert (tmp_path / "few" / "r.json").read_bytes() == (tmp_path / "many" / "r.json").read_bytes()


def test_pages_are_the_same_bytes_again_and_need_no_network(tmp_path: Path) -> None:
    """No clock, no script, no other host; every link leads to a page; a value from the data is text."""
    result = with_warnings(suite(0, 4))
    for name in ("one", "two"):
        enforce(tmp_path / name, result)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    pages = sorted((tmp_path / "one" / "docs").rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        text = page.read_text()
        assert "://" not in text
        assert "<script" not in text
        assert "<b>17</b>" not in text
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert (page.parent / link).is_file(), f"{page} links to {link}"
    assert "part p1; faults 4" in (tmp_path / "one" / "docs" / "index.html").read_text()


def test_a_page_shows_the_values_of_a_rule_that_holds(tmp_path: Path) -> None:
    """The page of a rule that holds shows the value of each measurement."""
    enforce(tmp_path, suite(0, 0))
    (page,) = (tmp_path / "docs" / "validations").rglob("*.html")
    assert "p0 9, p1 9" in page.read_text()


def test_first_few_is_short() -> None:
    """Of a million ids the first five are shown."""
    assert gate.first_few(range(10**6)) == "0, 1, 2, 3, 4"
    assert gate.first_few([]) == ""
