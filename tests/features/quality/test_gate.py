"""What the borders share: facts are judged, a gate closes on a critical rule only, pages need no network."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from common.errors import ValidationError
from features.quality import gate
from features.quality.gate import Border, Facts, Suite, as_wanted, none_at_all
from features.quality.results import Outcome, quiet_context
from tests.support.rich_world import digests

BORDER = Border(title="Some border", remedy="Mend it.")
RULES = (none_at_all("faults", ["first"], "No <fault>"), as_wanted("rows lost", "rows", "Every row is there"))


def facts(*faults: int, lost: int = 0, rules: tuple = RULES) -> Facts:
    """One fact per number of faults."""
    rows = {
        "place": [f"p{i}" for i in range(len(faults))],
        "faults": faults,
        "first": ["<b>17</b>"] * len(faults),
        "rows": [9 - lost] * len(faults),
        "wanted rows": [9] * len(faults),
    }
    return Facts(key="place", rows=pa.table(rows), rules=rules)


def suite(*faults: int, lost: int = 0, rules: tuple = RULES) -> Suite:
    """The outcomes on such facts."""
    return Suite(name="part", rows=9, outcomes=gate.judge(quiet_context(), facts(*faults, lost=lost, rules=rules)))


def conclude(folder: Path, judged: Suite) -> dict:
    """Report and pages under `folder`; returns the report."""
    gate.conclude(BORDER, [judged], name="tiny", report=folder / "r.json", docs=folder / "docs")
    return json.loads((folder / "r.json").read_text())


def warned(judged: Suite) -> Suite:
    """The same outcomes, as if each rule only warned."""
    lenient = [
        Outcome(**{**vars(o), "rule": type(o.rule)(**{**vars(o.rule), "severity": "warning"})}) for o in judged.outcomes
    ]
    return Suite(name=judged.name, rows=judged.rows, outcomes=lenient)


def test_every_fact_that_breaks_a_rule_is_an_example() -> None:
    """Two of three facts are at fault; each is told with its key and the columns that show the fault."""
    judged = suite(0, 2, 5)
    (fault,) = judged.failed
    assert fault.examples == [
        {"place": "p1", "faults": 2, "first": "<b>17</b>"},
        {"place": "p2", "faults": 5, "first": "<b>17</b>"},
    ]
    assert [outcome.rule.name for outcome in suite(0, lost=1).failed] == ["rows lost"]


def test_a_gate_closes_on_what_is_critical(tmp_path: Path) -> None:
    """A critical rule raises, after the report and the pages were written; a warning stands in both and raises not."""
    with pytest.raises(ValidationError, match=r"(?s)part: faults: expected: No <fault>; found e\.g\. .*Mend it\."):
        conclude(tmp_path, suite(3))
    assert not json.loads((tmp_path / "r.json").read_text())["passed"]
    report = conclude(tmp_path / "lenient", warned(suite(3)))
    assert report["passed"]
    assert [fault["rule"] for fault in report["tables"]["part"]["failed"]] == ["faults"]


def test_a_new_rule_that_holds_leaves_the_report_as_it_was(tmp_path: Path) -> None:
    """The report is a dependency of training: it changes with what was found, not with what was asked."""
    conclude(tmp_path / "few", suite(0, rules=RULES[:1]))
    conclude(tmp_path / "many", suite(0))
    assert (tmp_path / "few" / "r.json").read_bytes() == (tmp_path / "many" / "r.json").read_bytes()


def test_pages_are_the_same_bytes_again_and_need_no_network(tmp_path: Path) -> None:
    """No clock, no script, no other host; every link leads to a page; a value from the data is text."""
    judged = warned(suite(0, 4))
    for name in ("one", "two"):
        conclude(tmp_path / name, judged)
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
    assert "place p1; faults 4" in (tmp_path / "one" / "docs" / "index.html").read_text()


def test_a_page_shows_what_was_found_also_where_nothing_is_wrong(tmp_path: Path) -> None:
    """Beside a rule that holds stands the value of each fact."""
    conclude(tmp_path, suite(0, 0))
    (page,) = (tmp_path / "docs" / "validations").rglob("*.html")
    assert "p0 9, p1 9" in page.read_text()


def test_shown_is_short() -> None:
    """Five of a million ids are enough to look for."""
    assert gate.shown(range(10**6)) == "0, 1, 2, 3, 4"
    assert gate.shown([]) == ""
