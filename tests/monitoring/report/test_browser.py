"""The report pages in a real browser: no requests, every link shows its target, the keyboard suffices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.generator import plots_page
from monitoring.detection import suite
from monitoring.detection.drift_tests import run_tests
from monitoring.index import index
from monitoring.report import page as report_page
from tests.support.chromium import PROGRAM, Tab, browser
from tests.support.drift_comparison import KINDS, LIMITS, comparison
from tests.support.drift_document import document, quiet

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
]

SHOWN = """(async () => {
  const lost = []
  for (const hash of new Set([...document.querySelectorAll('a[href^="#"]')].map(link => link.hash))) {
    location.hash = hash
    await new Promise(done => setTimeout(done, 60))  // Chromium follows no more than 200 of them in 10 s
    const target = document.getElementById(hash.slice(1)).getBoundingClientRect()
    const bar = document.querySelector('nav.top').getBoundingClientRect().bottom
    const end = document.documentElement.scrollHeight - innerHeight - scrollY < 2
    if (!target.height || target.top > innerHeight || (target.top < bar - 1 && !end)) lost.push(hash)
  }
  return lost
})()"""
COVERED = """[...document.querySelectorAll('table')].filter(table => table.tHead && table.tBodies[0]?.rows.length)
  .filter(table => table.checkVisibility() && getComputedStyle(table.tHead).position != 'absolute')  // hidden: cards
  .filter(table => [...table.tHead.rows].at(-1).cells[0].getBoundingClientRect().bottom >
                   table.tBodies[0].rows[0].getBoundingClientRect().top + 1).length"""
FOCUS = """(() => {
  const at = document.activeElement, look = getComputedStyle(at)
  return [at.tagName, at.className, at.hash || at.textContent.slice(0, 40), at.matches(':focus-visible'),
          look.outlineStyle]
})()"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A browser for all tests."""
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The drift page with and without findings, the page that leads to all reports, and one of Data Docs."""
    reports = tmp_path_factory.mktemp("project") / "reports"
    report_page.write(document(), reports / "drift" / "index.html")
    report_page.write(quiet(), reports / "quiet" / "index.html")
    (reports / "drift" / "drift.json").write_text(json.dumps(document()))
    for name in ("validation", "inspection/training"):
        (reports / name).mkdir(parents=True)
        (reports / name / "index.html").write_text("pages")
        failed = [{"severity": "warning", "rule": "view missing too often"}]
        plain: dict[str, Any] = {"passed": True, "tables": {"events": {"rows": 1200, "failed": failed}}}
        (reports / f"{name}.json").write_text(json.dumps(plain))
    index(reports=reports)
    docs = reports / "drift" / "expectations"
    tests = run_tests(comparison({"price": {"search": KINDS["missing"], "late": KINDS["covariate"]}}), LIMITS)
    suite.write_report(tests, name="simulation", rows=9000, report=docs.with_suffix(".json"), docs=docs)
    (expectations,) = docs.glob("validations/**/*.html")
    return {
        "act": reports / "drift" / "index.html",
        "ok": reports / "quiet" / "index.html",
        "index": reports / "index.html",
        "expectations": expectations,
    }


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["act", "ok", "index", "expectations"])
def test_a_page_makes_no_requests_and_logs_nothing(tab: Tab, pages: dict[str, Path], name: str, dark: bool) -> None:
    """The browser requests the file and nothing else; its console stays empty."""
    tab.open(pages[name], dark=dark)
    assert tab.requests == [pages[name].resolve().as_uri()]
    assert tab.console == []


@pytest.mark.parametrize("name", ["act", "ok", "index", "expectations"])
def test_a_telephone_shows_the_whole_width(tab: Tab, pages: dict[str, Path], name: str) -> None:
    """On 400 pixels the page does not scroll sideways, and no column of a table is narrower than a word."""
    tab.open(pages[name], width=400)
    assert tab.run("document.documentElement.scrollWidth") <= 400
    cells = "[...document.querySelectorAll('.sums > tbody > tr > *, .results > tbody > tr > *')]"
    assert tab.run(f"{cells}.every(cell => cell.offsetWidth >= 60)")


def test_a_wide_plot_scrolls_in_its_card(tab: Tab, tmp_path: Path) -> None:
    """The page of `dvc plots show`: on a telephone it is no wider than the telephone, for any plot."""
    plot = {"mark": "point", "width": 2000, "data": {"values": [{"epoch": 1}]}, "encoding": {"x": {"field": "epoch"}}}
    shown = f'<div id="plot"><script>vegaEmbed("#plot", {json.dumps(plot)});</script></div>'
    template = plots_page.page()
    (tmp_path / "index.html").write_text(template.replace("{plot_divs}", shown).replace("{refresh_tag}", ""))
    tab.open(tmp_path / "index.html", width=400)
    tab.run("(async () => { while (!document.querySelector('#plot svg')) await new Promise(requestAnimationFrame) })()")
    assert tab.run("document.documentElement.scrollWidth") == 400
    assert tab.run("document.querySelector('#plot').scrollWidth") > 2000


@pytest.mark.parametrize("width", [400, 800, 1199, 1200, 1201, 1400])
@pytest.mark.parametrize("name", ["act", "ok"])
def test_no_head_of_a_table_covers_its_first_row(tab: Tab, pages: dict[str, Path], name: str, width: int) -> None:
    """Heads stay under the bar where tables do not scroll; also at the width at which that changes."""
    tab.open(pages[name], width=width)
    assert tab.run("document.querySelectorAll('table').length") > 3
    assert tab.run(COVERED) == 0


@pytest.mark.parametrize("name", ["act", "ok"])
def test_every_link_within_the_page_shows_its_target(tab: Tab, pages: dict[str, Path], name: str) -> None:
    """Folded targets unfold, and no target is under the bar; also on the way from one target to the next."""
    tab.open(pages[name])
    assert tab.run(SHOWN) == []


def test_the_keyboard_reaches_every_link_and_shows_the_focus(tab: Tab, pages: dict[str, Path]) -> None:
    """Tab: first the link past the bar, then every link, region and fold in the order of the page, each outlined."""
    tab.open(pages["ok"])
    expected = tab.run("[...document.querySelectorAll('a, summary')].filter(e => e.checkVisibility()).length")
    met = []
    while (tab.press("Tab") or (focused := tab.run(FOCUS)))[0] != "BODY":
        met.append(focused)
    assert met[0][2] == "#main"
    assert len([one for one in met if one[0] in ("A", "SUMMARY")]) >= expected
    assert [one for one in met if not one[3] or one[4] == "none"] == []


def test_enter_follows_a_link_and_unfolds_a_fold(tab: Tab, pages: dict[str, Path]) -> None:
    """The first link of the page leads past the bar; a fold opens under Enter and closes under it."""
    tab.open(pages["act"])
    tab.press("Tab")
    tab.press("Enter")
    assert tab.run("document.activeElement.id") == "main"
    tab.run("document.querySelector('details.more > summary').focus()")
    states = []
    for _ in range(2):
        tab.press("Enter")
        states.append(tab.run("document.querySelector('details.more').open"))
    assert states == [True, False]
