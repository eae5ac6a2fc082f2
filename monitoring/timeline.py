"""The days of a backtest as a table and a plot: the champion beside a model never retrained, verdicts, releases.

    python -m monitoring.timeline --days DIR --out DIR

DIR holds a JSON file a day, as flows/backtest.py writes them. Makes timeline.json, timeline.md and timeline.svg.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert

from common import stage
from common.errors import SourceError

Row = dict[str, Any]
COLOURS = {"the champion": "#0b6e99", "never retrained": "#b4552d"}
VERDICTS = {"ok": "#e5f5ec", "watch": "#f0c45c", "act": "#e08a80"}  # each under its name: never the colour alone
HEAD = ("day", "rows", "champion", "never retrained", "gain, 95 % interval", "drift", "trained", "gate")
WIDTH = 720  # pixels


def timeline(*, days: Path, out: Path) -> None:
    """Write the table and the plot of the days in `days` to `out`; raises SourceError where there is none."""
    rows = [json.loads(path.read_text()) for path in sorted(days.glob("*.json"))]
    if not rows:
        raise SourceError(f"{days}: expected a JSON file for each day, found none; run python -m flows.backtest")
    out.mkdir(parents=True, exist_ok=True)
    (out / "timeline.json").write_text(json.dumps({**summary(rows), "days": rows}, indent=1, allow_nan=False) + "\n")
    (out / "timeline.md").write_text(page(rows))
    (out / "timeline.svg").write_text(vl_convert.vegalite_to_svg(plot(rows)))
    print(sentence(rows), flush=True)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """What retraining was worth: the mean gain over the days on which another model than the first one served.

    A day's interval is known, and days do not share rows: the squares of their halves add up.
    """
    other = [row["gain"] for row in rows if not row["same"]]
    if not other:
        return {"days_served": len(rows), "days_retrained": 0, "gain": None}
    value = sum(gain["value"] for gain in other) / len(other)
    half = math.sqrt(sum((gain["high"] - gain["value"]) ** 2 for gain in other)) / len(other)
    found = {"value": value, "low": value - half, "high": value + half}
    return {"days_served": len(rows), "days_retrained": len(other), "gain": found}


def sentence(rows: Sequence[Row]) -> str:
    """The summary in one line."""
    found = summary(rows)
    told = f"{found['days_served']} days from {rows[0]['day']} to {rows[-1]['day']}"
    if found["gain"] is None:
        return f"{told}, all of them served by the first model"
    return (
        f"{told}; on {found['days_retrained']} of them a retrained model served: {_signed(found['gain'])} AUC "
        "(mean of the cells) against the one never retrained"
    )


def page(rows: Sequence[Row]) -> str:
    """Markdown: the sentence, and a line for every day."""
    lines = [" | ".join(_cells(row)) for row in rows]
    head = f"| {' | '.join(HEAD)} |\n|---|---:|---:|---:|---:|---|---|---|\n"
    return f"# Backtest\n\n{sentence(rows)}.\n\n{head}" + "".join(f"| {line} |\n" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    gain = "the same" if row["same"] else _signed(row["gain"])
    gate = "" if row["trained"] is None else "released" if row["released"] else f"closed: {row['gate']}"
    return (
        row["day"],
        f"{row['rows']:,}",
        f"{row['mean']:.4f}",
        f"{row['frozen']:.4f}",
        gain,
        row["verdict"],
        row["trained"] or "",
        gate.replace("|", "/"),
    )


def _signed(gain: dict[str, float]) -> str:
    return f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"


def plot(rows: Sequence[Row]) -> dict[str, Any]:
    """Vega-Lite: both AUCs by day, a dashed line where a release went live; below it the verdict of each day."""
    order = {"domain": [row["day"] for row in rows]}  # else the days of the releases come first
    days = {"field": "day", "type": "ordinal", "title": None, "scale": order}
    bare = {**days, "axis": {"labels": False, "ticks": False}}
    values = [
        {"day": row["day"], "model": name, "auc": row[key]}
        for row in rows
        for name, key in zip(COLOURS, ("mean", "frozen"), strict=True)
    ]
    releases = [{"day": row["day"]} for row in rows if row["released"]]
    lines = {
        "data": {"values": values},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": bare,
            "strokeDash": {
                "field": "model",
                "legend": None,
                "scale": {"domain": [*COLOURS], "range": [[1, 0], [6, 3]]},
            },
            "y": {"field": "auc", "type": "quantitative", "title": "AUC, mean of the cells", "scale": {"zero": False}},
            "color": {"field": "model", "scale": {"domain": [*COLOURS], "range": [*COLOURS.values()]}, "title": None},
        },
    }
    rules = {
        "data": {"values": releases},
        "encoding": {"x": bare},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#667"},
    }
    colour = {"field": "verdict", "legend": None, "scale": {"domain": [*VERDICTS], "range": [*VERDICTS.values()]}}
    verdicts = {
        "data": {"values": [{"day": row["day"], "verdict": row["verdict"]} for row in rows]},
        "width": WIDTH,
        "height": 24,
        "encoding": {"x": days | {"title": "verdict on drift"}},
        "layer": [
            {"mark": "rect", "encoding": {"color": colour}},
            {"mark": "text", "encoding": {"text": {"field": "verdict"}}},
        ],
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "title": "Backtest: dashed where a release went live",
        "resolve": {"scale": {"color": "independent"}},
        "vconcat": [{"width": WIDTH, "height": 280, "layer": [rules, lines]}, verdicts],
    }


if __name__ == "__main__":
    stage.run(timeline)
