"""Report and pages of the quality gate: deterministic, readable without a network, true to the outcomes."""

import errno
import html
import json
import re
import shutil

import pyarrow as pa
import pytest

from features.quality import raw_log
from tests.support.rich_world import check, check_broken_rows, digests, rich_schema, rich_tables, write

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """One run over valid tables with every broken row appended: folder and results."""
    folder = tmp_path_factory.mktemp("checked")
    return folder, check_broken_rows(folder)


@pytest.fixture(scope="module")
def published(checked, tmp_path_factory):
    """Report and pages of the broken world, written twice."""
    folders = [tmp_path_factory.mktemp("published") for _ in range(2)]
    for folder in folders:
        raw_log.write_report(
            list(checked[1].values()), name="tiny", report=folder / "validation.json", docs=folder / "validation"
        )
    return folders


def test_pages_need_no_network(published):
    """No page contains an address of another host, or a script."""
    pages = sorted((published[0] / "validation").rglob("*.html"))
    assert len(pages) == 7  # index, and a suite and a result for each of three tables
    for page in pages:
        text = page.read_text()
        assert "://" not in text
        assert "<script" not in text
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert (page.parent / link).is_file(), f"{page} links to {link}"
    files = {path.relative_to(published[0] / "validation") for path in (published[0] / "validation").rglob("*.*")}
    assert {path.suffix for path in files if path.parts[0] != "gx"} == {".html", ".000000Z"}  # and the folder of a run


def test_pages_show_each_broken_rule(published, checked):
    """The page of a table holds the sentence of every rule and the count of each broken one."""
    for name, result in checked[1].items():
        (page,) = (published[0] / "validation" / "validations" / "validation" / name).rglob("*.html")
        text = page.read_text()
        assert f"{name}: failed" in text
        assert text.count("unexpected values found") == sum(o.rule.scope == "row" for o in result.failed)
        for outcome in result.outcomes:
            assert html.escape(outcome.rule.sentence) in text


def test_report_and_pages_are_the_same_bytes_again(published):
    """Neither clock nor random ids: the same results give the same files."""
    assert digests(published[0]) == digests(published[1])


def test_pages_that_cannot_be_written_leave_the_earlier_ones(published, checked, monkeypatch, tmp_path):
    """On a full disk Great Expectations ends in the middle of a file; the folder is that of before, to the byte."""

    def stop(context, gate):
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.copytree(published[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("features.quality.datadocs.project.add_checkpoint", stop)
    with pytest.raises(OSError, match="validation"):
        raw_log.write_report(
            list(checked[1].values()),
            name="tiny",
            report=tmp_path / "validation.json",
            docs=tmp_path / "validation",
        )
    assert digests(tmp_path) == digests(published[0])


def test_report_is_strict_json(published):
    """Numbers that are not finite are text: NaN and Infinity are not valid JSON."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in the report")

    report = json.loads((published[0] / "validation.json").read_text(), parse_constant=refuse)
    weights = [f for f in report["tables"]["users"]["failed"] if f["column"] == "weight"]
    assert {example["weight"] for fault in weights for example in fault["examples"]} == {None, "nan", "inf", "-inf"}


def test_values_are_escaped_in_a_page(tmp_path):
    """A value from the log is text on the page, even if it is markup."""
    tables = rich_tables(rows=60)
    names = ["<script>alert(1)</script>", *tables["events"]["scenario"].to_pylist()[1:]]
    tables["events"] = tables["events"].set_column(4, "scenario", pa.array(names))
    write(tmp_path / "ingested", tables)
    results = check(tmp_path, rich_schema())
    raw_log.write_report(list(results.values()), name="tiny", report=tmp_path / "r.json", docs=tmp_path / "docs")
    text = "".join(page.read_text() for page in (tmp_path / "docs").rglob("*.html"))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
