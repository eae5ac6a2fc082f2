"""The page of the kinds of faults names tests that exist, and says which of them are slow."""

import re

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.unit
PAGE = ROOT / "docs" / "reference" / "fault-kinds.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and ".py`" in line]
FILE = re.compile(r"`([\w/]+\.py)`( \(slow\))?")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_kind_has_tests(row: str) -> None:
    """Every file of a row is there; one whose tests are all slow is marked so, and no other."""
    files = FILE.findall(row)
    assert files
    for name, slow in files:
        text = (ROOT / "tests" / name).read_text(encoding="utf-8")
        assert bool(slow) <= ("mark.slow" in text), name
        all_slow = re.search(r"^pytestmark = .*mark\.slow", text, re.MULTILINE) is not None
        assert bool(slow) >= all_slow, name
