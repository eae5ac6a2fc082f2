"""The page of drift: complete, small, readable without a network, and the same bytes again."""

import copy
import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from jinja2 import UndefinedError

from monitoring.report import charts, wording
from monitoring.report import page as report_page
from tests.support.drift_document import FINDINGS, ODD, SCENARIOS, document, nulls, quiet

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
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src", "xlink:href", "action") if name in found]
        if tag == "a" and self.cell is not None:
            self.cells.append((self.cell, found["href"] or ""))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cell_class = found.get("class") or ""

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
        """Text; a style is none."""
        self.text += data if "style" not in self.open else ""


@pytest.fixture(scope="module")
def page() -> str:
    """The page of 40 columns in six scenarios."""
    return report_page.render(document())


@pytest.fixture(scope="module")
def read(page: str) -> Page:
    """The same, read."""
    return Page(page)


@pytest.mark.parametrize("made", [document, quiet, nulls])
def test_it_is_well_formed_and_no_id_stands_twice(made: Any) -> None:
    """Every element is closed, ids are unique, and every link within the page leads somewhere."""
    found = Page(report_page.render(made()))
    assert len(found.ids) == len(set(found.ids))
    assert set(HEADINGS) <= set(found.ids)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_it_is_one_small_file(tmp_path: Any) -> None:
    """40 columns in six scenarios: one file, under 700 kB."""
    report_page.write(document(), tmp_path / "drift" / "index.html")
    assert [path.name for path in (tmp_path / "drift").iterdir()] == ["index.html"]
    assert (tmp_path / "drift" / "index.html").stat().st_size < 700_000


def test_it_asks_nobody_for_anything(page: str, read: Page) -> None:
    """No address of another host, no script, no import; links lead within the page or beside it."""
    assert "//" not in page
    for word in ("<script", "<link", "<iframe", "<img", "@import", "url(", "javascript:", "onclick"):
        assert word not in page
    assert all(link.startswith("#") or link == "../validation/index.html" for link in read.links)


def test_the_same_document_gives_the_same_bytes() -> None:
    """No clock and no random id enters, and the document is left as it was."""
    made = document()
    assert report_page.render(made) == report_page.render(made)
    assert made == document()


def test_verdict_reason_and_next_step_come_first(page: str, read: Page) -> None:
    """The big word, why, where, how sure, and what to do stand before the first heading of a section."""
    made = document()
    head = page[: page.index("<h2>")]
    assert "<h1>Act</h1>" in head
    assert made["reason"] in head
    assert wording.quote(made["next_step"]) in head
    assert '<a href="#column-1-2">price</a> in search <span class="faint">(very sure)</span>' in head
    assert "7 to act on, 9 to watch" in " ".join(read.text.split())
    assert "<h1>OK</h1>" in report_page.render(quiet())


def test_every_finding_is_told(read: Page) -> None:
    """Each sentence, in the order of the document, and its kind in words."""
    places = [read.text.index(finding[-1]) for finding in FINDINGS]
    assert places == sorted(places)
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
    found = Page(report_page.render(made))
    assert not [link for link in found.links if "javascript" in link]
    assert "x" not in found.ids


def test_the_map_leads_from_every_cell_to_its_histogram(read: Page) -> None:
    """40 x 6 cells, each a link; the id it leads to is that column's in that scenario."""
    assert len(read.cells) == 40 * len(SCENARIOS)
    assert len({link for _, link in read.cells}) == len(read.cells)
    assert {link[1:] for _, link in read.cells} <= set(read.ids)


def test_few_rows_are_marked_and_never_judged(read: Page) -> None:
    """The scenario with 20 rows is grey in every column, whatever its PSI."""
    marked = [link for name, link in read.cells if name == "few"]
    assert len(marked) == 40
    assert all(link.endswith("-6") for link in marked)
    worst = [column["worst"]["scenario"] for column in report_page.rank(document())]
    assert "late_night" not in worst


def test_columns_stand_by_worst_finding_then_by_importance() -> None:
    """First those with a finding, as the findings are ranked; then those that a cell judges; then by importance."""
    ranked = report_page.rank(document())
    found = list(dict.fromkeys(finding[2] for finding in FINDINGS if finding[2]))
    assert [column["column"] for column in ranked[: len(found)]] == found
    assert ranked[len(found)]["column"] == "age_band"
    rest = [column["importance"] for column in ranked[len(found) + 1 :]]
    known = [importance for importance in rest if importance is not None]
    assert known == sorted(known, reverse=True)
    assert rest[len(known) :] == [None] * (len(rest) - len(known))


def test_a_cell_says_its_verdict_in_words_and_what_else_was_found(page: str) -> None:
    """The price in search was judged for its unit: the cell is marked, its name says so and its kind stands below."""
    (cell,) = re.findall(r'<td class="act"><a href="#column-1-2".*?</td>', page)
    assert "price, search: act" in cell
    assert '<span class="unseen">act </span>' in cell
    assert "<small>unit changed</small>" in cell
    (row,) = re.findall(r'<tr><th scope="row"><a href="#column-5">brand.*?</th>', page)
    assert "new values in all" in row


def test_absent_numbers_are_dashes_and_nothing_else_is_lost() -> None:
    """A document of nulls still tells every finding, column, scenario and task, and never says None or nan."""
    found = Page(report_page.render(nulls()))
    for word in ("None", "nan", "null"):
        assert not re.search(rf"\b{word}\b", found.text)
    for name in (*SCENARIOS, "price", "click", "order", *(finding[-1] for finding in FINDINGS)):
        assert name in found.text
    assert found.text.count(wording.ABSENT) > 100


def test_no_number_is_lost() -> None:
    """Rows, shares and rates of the document stand on the page as they are rounded for it."""
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
    """A document that is not whole makes no page that looks whole."""
    made = copy.deepcopy(quiet())
    del made["labels"][0]["rate"]
    with pytest.raises((KeyError, UndefinedError)):
        report_page.render(made)


def test_bars_are_as_high_as_shares() -> None:
    """Two bins of 25 % and 75 %, full height at 75 %: bars of 44 and 132 units, side by side."""
    drawn = charts.histogram([0.25, 0.75], [0.75, 0.25], ["low", "high"], 0.75)
    assert 'class="before" d="M24 152v-44h96v44h144v-132h96v132h144"' in drawn
    assert 'class="now" d="M120 152v-132h96v132h144v-44h96v44h144"' in drawn
    assert "low: 25.0% then, 75.0% now" in drawn


def test_the_limit_stands_at_one_place_in_every_row() -> None:
    """So that rows compare; what is far beyond its limit stops at the end, with an arrow."""
    near, far = charts.bullet(0.2, 0.1, 0.05), charts.bullet(100.0, 10.0, None)
    limits = [re.findall(r'class="limit" d="(.*?)"', drawn) for drawn in (near, far)]
    assert limits[0] == limits[1] != []
    assert "beyond" not in near
    assert "beyond" in far


def test_what_cannot_be_drawn_is_a_dash() -> None:
    """No rows, no labels, no history: an en dash that says why, instead of an empty drawing."""
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
    ("said", "expected"),
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
def test_a_number_has_the_digits_that_mean_something(said: str, expected: str) -> None:
    """Three digits at most, thousands apart, small ones as "less than"."""
    assert said.replace(wording.SPACE, " ") == expected
