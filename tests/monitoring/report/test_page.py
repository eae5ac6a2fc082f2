"""The page of the drift report: complete, small, readable without a network, deterministic."""

import copy
import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from jinja2 import UndefinedError

from monitoring.report import charts, wording
from monitoring.report import page as report_page
from tests.support.drift_document import SCENARIOS, document, nulls, quiet
from tests.support.drift_findings import FINDINGS, ODD

pytestmark = pytest.mark.unit

VOID = {"meta", "link", "br", "img", "input", "hr"}
HEADINGS = ["mix", "map", "columns", "labels", "scores", "performance", "quality", "glossary", "findings"]


class Page(HTMLParser):
    """A strict reader: every element is closed by its own tag; collects ids, links, cells of the map and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.cells: list[tuple[str, str]] = []  # class of a cell of the map, and where it leads
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element opens."""
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values[name] or "" for name in ("href", "src", "xlink:href", "action") if name in values]
        if tag == "a" and self.cell is not None:
            self.cells.append((self.cell, values["href"] or ""))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cell_class = values.get("class") or ""

    @property
    def cell(self) -> str | None:
        """The class of the cell that is open, if it is one of the map."""
        if "td" not in self.open:
            return None
        return self.cell_class if self.cell_class in ("act", "watch", "above", "quiet", "few", "none") else None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of SVG without content."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element closes: the one that opened last."""
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text, except that of a style sheet."""
        self.text += data if "style" not in self.open else ""


@pytest.fixture(scope="module")
def page() -> str:
    """The page of 40 columns in six scenarios."""
    return report_page.render(document())


@pytest.fixture(scope="module")
def read(page: str) -> Page:
    """The parsed page of 40 columns in six scenarios."""
    return Page(page)


@pytest.mark.parametrize("made", [document, quiet, nulls])
def test_it_is_well_formed_and_its_ids_are_unique(made: Any) -> None:
    """Every element is closed, ids are unique, and every link within the page leads somewhere."""
    page = Page(report_page.render(made()))
    assert len(page.ids) == len(set(page.ids))
    assert set(HEADINGS) <= set(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_it_is_one_small_file(tmp_path: Any) -> None:
    """40 columns in six scenarios: one file, under 700 kB."""
    report_page.write(document(), tmp_path / "drift" / "index.html")
    assert [path.name for path in (tmp_path / "drift").iterdir()] == ["index.html"]
    assert (tmp_path / "drift" / "index.html").stat().st_size < 700_000


def test_it_needs_no_network_and_no_script(page: str, read: Page) -> None:
    """No address of another host, no script, no import; links lead within the page or to the validation report."""
    assert "//" not in page
    for word in ("<script", "<link", "<iframe", "<img", "@import", "url(", "javascript:", "onclick"):
        assert word not in page
    assert all(link.startswith("#") or link == "../validation/index.html" for link in read.links)


def test_the_same_document_gives_the_same_bytes() -> None:
    """Neither clock nor random ids; the document is not changed."""
    made = document()
    assert report_page.render(made) == report_page.render(made)
    assert made == document()


def test_verdict_reason_and_next_step_come_first(page: str, read: Page) -> None:
    """Verdict, reason, columns, certainty and next step are before the first heading of a section."""
    made = document()
    head = page[: page.index("<h2>")]
    assert "<h1>Act</h1>" in head
    assert made["reason"] in head
    assert wording.quote(made["next_step"]) in head
    assert '<a href="#column-1-2">price</a> in search <span class="faint">(very sure)</span>' in head
    assert "7 to act on, 11 to watch" in " ".join(read.text.split())
    assert "<h1>OK</h1>" in report_page.render(quiet())


def test_every_finding_is_on_the_page(read: Page) -> None:
    """Each sentence, in the order of the document, and its kind in words."""
    positions = [read.text.index(finding[-1]) for finding in FINDINGS]
    assert positions == sorted(positions)
    assert {finding[0] for finding in FINDINGS} == set(wording.KINDS)
    assert all(wording.name_kind(kind) in read.text for kind in wording.KINDS)


def test_names_from_the_data_are_text(page: str, read: Page) -> None:
    """A column, a bin or a rule cannot write markup into the page; nor can a report lead away from it."""
    assert ODD in read.text
    assert ODD not in page
    assert "names are <unique>" in read.text
    assert html.escape("value <3>") in page
    made = quiet()
    made["quality"]["report"] = "javascript:alert(1)"
    made["mix"]["scenarios"][0]["scenario"] = made["scores"][0]["scenario"] = '"><b id=x>'
    parsed = Page(report_page.render(made))
    assert not [link for link in parsed.links if "javascript" in link]
    assert "x" not in parsed.ids


def test_the_map_leads_from_every_cell_to_its_histogram(read: Page) -> None:
    """40 x 6 cells, each a link; the id it leads to is that column's in that scenario."""
    assert len(read.cells) == 40 * len(SCENARIOS)
    assert len({link for _, link in read.cells}) == len(read.cells)
    assert {link[1:] for _, link in read.cells} <= set(read.ids)


def test_few_rows_are_marked_and_never_tested(read: Page) -> None:
    """The scenario with 20 rows is grey in every column, for any PSI."""
    marked = [link for name, link in read.cells if name == "few"]
    assert len(marked) == 40
    assert all(link.endswith("-6") for link in marked)
    worst = [column["worst"]["scenario"] for column in report_page.rank(document())]
    assert "late_night" not in worst


def test_columns_are_ranked_by_worst_finding_then_by_importance() -> None:
    """First those with a finding, in the order of the findings; then those with a verdict; then by importance."""
    ranked = report_page.rank(document())
    with_findings = list(dict.fromkeys(finding[2] for finding in FINDINGS if finding[2]))
    count = len(with_findings)
    assert [column["column"] for column in ranked[:count]] == with_findings
    assert ranked[count]["column"] == "age_band"
    rest = [column["importance"] for column in ranked[count + 1 :]]
    known = [importance for importance in rest if importance is not None]
    assert known == sorted(known, reverse=True)
    assert rest[len(known) :] == [None] * (len(rest) - len(known))


def test_a_cell_has_its_verdict_in_words_and_the_kinds_of_its_findings(page: str) -> None:
    """The unit of the price in search has changed: the cell has the verdict in its title, and the kind below."""
    (cell,) = re.findall(r'<td class="act"><a href="#column-1-2".*?</td>', page)
    assert "price, search: act" in cell
    assert '<span class="unseen">act </span>' in cell
    assert "<small>unit changed</small>" in cell
    (row,) = re.findall(r'<tr><th scope="row"><a href="#column-5">brand.*?</th>', page)
    assert "new values in all" in row


def test_missing_numbers_are_dashes() -> None:
    """The page of a document of nulls has every finding, column, scenario and task, and never None or nan."""
    parsed = Page(report_page.render(nulls()))
    for word in ("None", "nan", "null"):
        assert not re.search(rf"\b{word}\b", parsed.text)
    for name in (*SCENARIOS, "price", "click", "order", *(finding[-1] for finding in FINDINGS)):
        assert name in parsed.text
    assert parsed.text.count(wording.ABSENT) > 100


def test_no_number_is_lost() -> None:
    """Rows, shares and rates of the document are on the page, rounded."""
    made = document(columns=4)
    text = Page(report_page.render(made)).text
    for column in made["columns"]:
        for cell in column["scenarios"].values():
            pairs = zip(cell["reference"], cell["current"], strict=True)
            assert all(wording.percent(*pair) in text for pair in pairs)
            assert all(wording.figure(cell[name]) in text for name in ("psi", "noise", "js"))
    for row in made["labels"]:
        assert f"{wording.share(row['low'])} to {wording.share(row['high'])}" in text
    for row in made["performance"]:
        assert wording.fixed(row["reference_auc"]) in text


def test_a_key_that_is_missing_is_an_error() -> None:
    """An incomplete document makes no page."""
    made = copy.deepcopy(quiet())
    del made["labels"][0]["rate"]
    with pytest.raises((KeyError, UndefinedError)):
        report_page.render(made)


def test_the_height_of_bars_is_their_share() -> None:
    """Two bins of 25 % and 75 %, full height at 75 %: bars of 44 and 132 units, side by side."""
    drawn = charts.histogram([0.25, 0.75], [0.75, 0.25], ["low", "high"], 0.75)
    assert 'class="before" d="M24 152v-44h96v44h144v-132h96v132h144"' in drawn
    assert 'class="now" d="M120 152v-132h96v132h144v-44h96v44h144"' in drawn
    assert "low: 25.0% then, 75.0% now" in drawn


def test_the_limit_has_the_same_position_in_every_row() -> None:
    """Rows can be compared; a value far beyond its limit is drawn at the end, with an arrow."""
    near, far = charts.bullet(0.2, 0.1, 0.05), charts.bullet(100.0, 10.0, None)
    limits = [re.findall(r'class="limit" d="(.*?)"', drawn) for drawn in (near, far)]
    assert limits[0] == limits[1] != []
    assert "beyond" not in near
    assert "beyond" in far


def test_a_chart_without_data_is_a_dash() -> None:
    """No rows, no labels, no history: an en dash with the reason, instead of an empty chart."""
    for drawn in (
        charts.histogram([], [], ["a"], 1.0),
        charts.reliability([]),
        charts.sparkline([], None, 0.1),
        charts.bullet(None, 0.1, 0.1),
        charts.interval(None, None, None, 0.5, (0, 1)),
    ):
        assert drawn.startswith('<span title="')
        assert wording.ABSENT in drawn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.figure(0.3123), "0.31"),
        (wording.figure(0.0412), "0.041"),
        (wording.figure(0.00003), "<0.001"),
        (wording.figure(1234.5), "1,234"),
        (wording.figure(0.0), "0.000"),
        (wording.share(0.1234), "12.3 %"),
        (wording.share(0.0001), "<0.1 %"),
        (wording.change(0.2, 0.15), "−5.0"),
        (wording.change(0.2, 0.2000001), "0.0"),
        (wording.chance(0.0000001), "p < 0.001"),
        (wording.chance(0.04), "p = 0.04"),
        (wording.certainty(0.04), "fairly sure"),
        (wording.certainty(None), "not tested"),
        (wording.count(1234567), "1,234,567"),
        (wording.measured(0.2, "missing"), "20.0 points"),
        (wording.measured(0.6, "label_rate"), "60 %"),
        (wording.measured(0.2, "psi"), "0.20"),
        (wording.quote("a `b<c` d"), "a <code>b&lt;c</code> d"),
    ],
)
def test_a_number_has_its_significant_digits(text: str, expected: str) -> None:
    """Three digits at most, separated thousands, small numbers as "less than"."""
    assert text.replace(wording.SPACE, " ") == expected
