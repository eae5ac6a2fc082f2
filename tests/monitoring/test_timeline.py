"""Summary, table and plot of a backtest: the gain of retraining, day by day."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from common.errors import SourceError
from monitoring.report.backtest import VERDICTS, page, plot, summary
from monitoring.timeline import NAMES, timeline

pytestmark = pytest.mark.unit


def day(number: int, gain: float = 0.0, **chosen: Any) -> dict[str, Any]:
    """A day of a backtest with an interval of 0.03 around its gain; without a gain, served by the first model."""
    return {
        "day": f"2026-01-{number:02}",
        "rows": 1000 * number,
        "mean": 0.7 + gain,
        "frozen": 0.7,
        "same": gain == 0,
        "gain": {"value": gain, "low": gain - 0.03, "high": gain + 0.03},
        "verdict": "ok",
        "trained": None,
        "gate": None,
        "released": False,
    } | chosen


ROWS = [
    day(9, trained="first", released=True, gate="a is the champion"),
    day(10, verdict="act"),
    day(11, trained="act", gate="b is not released: mean | too small", verdict="watch"),
    day(12, 0.05, trained="schedule", released=True, gate="c is the champion"),
    day(13, 0.07),
]


def test_the_gain_is_the_mean_of_the_days_on_which_another_model_served() -> None:
    """Days share no rows: the half width of its interval is that of a day, by the square root of two."""
    result = summary(ROWS)
    assert (result["days_served"], result["days_retrained"]) == (5, 2)
    half = 0.03 * math.sqrt(2) / 2
    assert result["gain"] == pytest.approx({"value": 0.06, "low": 0.06 - half, "high": 0.06 + half})
    assert summary(ROWS[:3])["gain"] is None


def test_the_table_has_a_line_for_every_day() -> None:
    """With the reason of a rejected model, in which a vertical bar does not break the table."""
    head, _, *lines = page(ROWS).splitlines()[4:]
    assert head.startswith("| day | rows | champion | never retrained |")
    assert lines == [
        "| 2026-01-09 | 9,000 | 0.7000 | 0.7000 | the same | ok | first | released |",
        "| 2026-01-10 | 10,000 | 0.7000 | 0.7000 | the same | act |  |  |",
        "| 2026-01-11 | 11,000 | 0.7000 | 0.7000 | the same | watch | act | closed: b is not released: "
        "mean / too small |",
        "| 2026-01-12 | 12,000 | 0.7500 | 0.7000 | +0.0500 (+0.0200 to +0.0800) | ok | schedule | released |",
        "| 2026-01-13 | 13,000 | 0.7700 | 0.7000 | +0.0700 (+0.0400 to +0.1000) | ok |  |  |",
    ]
    assert "on 2 of them a retrained model served: +0.0600 (+0.0388 to +0.0812) AUC" in page(ROWS)
    assert "all of them served by the first model" in page(ROWS[:2])


def test_the_plot_draws_both_models_the_verdicts_and_the_releases() -> None:
    """A point per day for each model, in their colours; a dashed line per release."""
    upper, lower = plot(ROWS)["vconcat"]
    rules, lines = upper["layer"]
    assert [value["day"] for value in rules["data"]["values"]] == ["2026-01-09", "2026-01-12"]
    assert len(lines["data"]["values"]) == 10
    assert [value["verdict"] for value in lower["data"]["values"]] == ["ok", "act", "watch", "ok", "ok"]
    drawn = "".join(re.findall(r">(2026-01-\d\d)<", vl_convert.vegalite_to_svg(plot(ROWS))))
    assert drawn == "".join(row["day"] for row in ROWS), "the days of the releases come first"
    for part in (rules, lines, lower):
        assert part["encoding"]["x"]["scale"]["domain"] == [row["day"] for row in ROWS]
    band, word = lower["layer"]
    assert band["encoding"]["color"]["scale"]["domain"] == list(VERDICTS)
    assert word["encoding"]["text"]["field"] == "verdict", "colour must not be the only sign"


def test_three_files_are_written(tmp_path: Path) -> None:
    """From a file per day; a folder without one is an error, and what an earlier run has left there is gone."""
    (tmp_path / "out").mkdir()
    for name in NAMES:
        (tmp_path / "out" / name).write_text("{}")
    with pytest.raises(SourceError, match="expected a JSON file for each day, found none"):
        timeline(days=tmp_path, out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    for row in ROWS:
        (tmp_path / f"{row['day']}.json").write_text(json.dumps(row))
    timeline(days=tmp_path, out=tmp_path / "out")
    assert json.loads((tmp_path / "out/timeline.json").read_text())["days"] == ROWS
    assert (tmp_path / "out/timeline.md").read_text() == page(ROWS)
    drawn = (tmp_path / "out/timeline.svg").read_text()
    assert all(word in drawn for word in ("never retrained", "the champion", "2026-01-13", "AUC, mean of the cells"))
