"""The colours of the reports: enough contrast in both schemes, distinguishable with a colour vision deficiency."""

import itertools
import re
from pathlib import Path

import pytest

from common.paths import ROOT
from tests.support.colour_contrast import SEEN, apart, contrast, palettes

pytestmark = pytest.mark.unit

DRIFT = ROOT / "monitoring" / "report" / "templates" / "style.css"
DOCS = ROOT / "features" / "quality" / "datadocs" / "style.css"
TEXT = {
    DRIFT: [
        *itertools.product(("ink", "faint", "link"), ("paper", "wash", "ok-wash", "watch-wash", "act-wash")),
        *((level, ground) for level in ("ok", "watch", "act") for ground in ("paper", f"{level}-wash")),
        ("on-act", "heat-act"),
        ("on-watch", "heat-watch"),
        ("on-above", "heat-above"),
        ("faint", "few"),
        ("faint", "few-line"),
    ],
    DOCS: [
        *itertools.product(("ink", "faint", "link"), ("paper", "wash")),
        *((level, f"{level}-wash") for level in ("good", "warn", "bad")),
        ("bad", "paper"),
        *(("ink", f"{level}-wash") for level in ("good", "warn", "bad")),
    ],
}
MARKS = {  # charts and frames; band and bars of the reference have an edge in `before`
    DRIFT: [
        *itertools.product(("now", "before", "act", "watch", "ink", "faint", "link"), ("paper", "wash")),
        ("now", "band"),
        ("now", "before-wash"),
        ("ok", "ok-wash"),
        ("watch", "watch-wash"),
        ("act", "act-wash"),
        ("heat-act", "paper"),
    ],
    DOCS: list(itertools.product(("good", "bad", "link"), ("paper", "wash"))),
}
VERDICTS = {DRIFT: ("ok", "watch", "act"), DOCS: ("good", "warn", "bad")}
STEPS = ("heat-act", "heat-watch", "heat-above", "paper", "few")  # of the heat map
CASES = [
    pytest.param(style, paper, id=f"{style.parent.name}-{paper}")
    for style in (DRIFT, DOCS)
    for paper in ("light", "dark")
]


def test_contrast_and_distance_of_known_colours() -> None:
    """Black on white 21, #777 on white 4.48 (too little); with deuteranopia red and green of one lightness are near."""
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)
    assert apart("#000", "#fff", SEEN["all cones"]) == pytest.approx(100, abs=0.1)
    whole, without = (apart("#a81e16", "#7a4f00", SEEN[name]) for name in ("all cones", "deuteranopia"))
    assert (whole > 40, without < 3) == (True, True)


@pytest.mark.parametrize(("style", "paper"), CASES)
def test_text_has_a_contrast_of_4_5_and_marks_of_3(style: Path, paper: str) -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11."""
    colours = palettes(style)[paper]
    for least, pairs in ((4.5, TEXT[style]), (3.0, MARKS[style])):
        contrasts = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in pairs}
        assert {pair: value for pair, value in contrasts.items() if value < least} == {}


@pytest.mark.parametrize("cones", SEEN)
@pytest.mark.parametrize(("style", "paper"), CASES)
def test_verdicts_are_distinguishable_with_a_colour_vision_deficiency(style: Path, paper: str, cones: str) -> None:
    """At least ten in CIELAB between any two of them."""
    colours = palettes(style)[paper]
    assert distances(colours, VERDICTS[style], cones) == {}


@pytest.mark.parametrize("cones", SEEN)
@pytest.mark.parametrize("paper", ["light", "dark"])
def test_the_steps_of_the_heat_map_are_distinguishable_with_a_colour_vision_deficiency(paper: str, cones: str) -> None:
    """Ten between any two; few rows, which are hatched, need five."""
    colours = palettes(DRIFT)[paper]
    assert distances(colours, STEPS[:-1], cones) == {}
    assert distances(colours, STEPS, cones, least=5) == {}


def distances(colours: dict[str, str], names: tuple[str, ...], cones: str, least: float = 10) -> dict[tuple, float]:
    """The pairs that are too close."""
    values = {pair: apart(*(colours[name] for name in pair), SEEN[cones]) for pair in itertools.combinations(names, 2)}
    return {pair: value for pair, value in values.items() if value < least}


def test_colour_is_never_the_only_sign() -> None:
    """Every verdict and every step of the heat map has a symbol, or a hatch."""
    style = DRIFT.read_text()
    for rule in (r"\.pill\.{}::before", r"\.cell\.{}::before"):
        signs = [re.search(rule.format(level) + r' \{ (?:[^}]*; )?content: "(.)', style) for level in ("watch", "act")]
        assert len({sign.group(1) for sign in signs if sign}) == 2
    assert re.search(r'\.cell\.above::before \{ content: "', style)
    assert re.search(r"\.cell\.few \{ background: repeating-linear-gradient", style)
