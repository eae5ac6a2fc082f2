"""The report and the pages: the same bytes again, readable without a network, true to the outcomes."""

import html
import json
import re

import pyarrow as pa
import pytest

from features import validate
from tests.support.rich_world import digests, examine, judge_broken_rows, rich_schema, rich_tables, write


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """One run over valid tables with every broken row appended: folder and verdicts."""
    folder = tmp_path_factory.mktemp("judged")
    return folder, judge_broken_rows(folder)


@pytest.fixture(scope="module")
def published(judged, tmp_path_factory):
    """Report and pages of the broken world, written twice."""
    folders = [tmp_path_factory.mktemp("published") for _ in range(2)]
    for folder in folders:
        validate.publish(
            list(judged[1].values()), name="tiny", report=folder / "validation.json", docs=folder / "validation"
        )
    return folders


def test_pages_need_no_network(published):
    """No page asks another host for anything: no address of another host stands in any of them."""
    pages = sorted((published[0] / "validation").rglob("*.html"))
    assert len(pages) == 7  # index, and a suite and a result for each of three tables
    for page in pages:
        text = page.read_text()
        assert "://" not in text
        assert "<script" not in text
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert (page.parent / link).is_file(), f"{page} links to {link}"
    assert {path.suffix for path in (published[0] / "validation").rglob("*.*") if path.is_file()} == {".html"}


def test_pages_show_each_broken_rule(published, judged):
    """The page of a table holds the sentence of every rule and the count of each broken one."""
    for name, verdict in judged[1].items():
        (page,) = (published[0] / "validation" / "validations" / name).rglob("*.html")
        text = page.read_text()
        assert f"{name}: failed" in text
        assert text.count("unexpected values found") == sum(o.rule.scope == "row" for o in verdict.failed)
        for outcome in verdict.outcomes:
            assert html.escape(outcome.rule.sentence) in text


def test_report_and_pages_are_the_same_bytes_again(published):
    """No clock and no random id enters: the same verdicts give the same files."""
    assert digests(published[0]) == digests(published[1])


def test_report_is_strict_json(published):
    """What is not finite stands as text: NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in the report")

    report = json.loads((published[0] / "validation.json").read_text(), parse_constant=refuse)
    weights = [f for f in report["tables"]["users"]["failed"] if f["column"] == "weight"]
    assert {example["weight"] for fault in weights for example in fault["examples"]} == {None, "nan", "inf", "-inf"}


def test_data_cannot_write_markup_into_a_page(tmp_path):
    """A value from the log is text on the page, whatever it says."""
    tables = rich_tables(rows=60)
    names = ["<script>alert(1)</script>", *tables["events"]["scenario"].to_pylist()[1:]]
    tables["events"] = tables["events"].set_column(4, "scenario", pa.array(names))
    write(tmp_path / "ingested", tables)
    verdicts = examine(tmp_path, rich_schema())
    validate.publish(list(verdicts.values()), name="tiny", report=tmp_path / "r.json", docs=tmp_path / "docs")
    text = "".join(page.read_text() for page in (tmp_path / "docs").rglob("*.html"))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
