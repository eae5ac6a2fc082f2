"""The days of a backtest as a summary, a Markdown table and a Vega-Lite plot."""

import math
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
COLOURS = {"the champion": "#0b6e99", "never retrained": "#b4552d"}
VERDICTS = {
    "ok": "#e5f5ec",
    "watch": "#f0c45c",
    "act": "#e08a80",
    "none": "#d5dbe2",
}  # each with its name: never only a colour
HEAD = ("day", "rows", "champion", "never retrained", "gain, 95 % interval", "drift", "trained", "gate")
WIDTH = 720  # pixels


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The gain of retraining: the mean over the days on which another model than the first one served.

    Days do not share rows, so the squares of the half widths of their intervals add up.
    """
    other = [row["gain"] for row in rows if not row["same"]]
    if not other:
        return {"days_served": len(rows), "days_retrained": 0, "gain": None}
    value = sum(gain["value"] for gain in other) / len(other)
    half = math.sqrt(sum((gain["high"] - gain["value"]) ** 2 for gain in other)) / len(other)
    gain = {"value": value, "low": value - half, "high": value + half}
    return {"days_served": len(rows), "days_retrained": len(other), "gain": gain}


def sentence(rows: Sequence[Row]) -> str:
    """The summary in one line."""
    result = summary(rows)
    days = f"{result['days_served']} days from {rows[0]['day']} to {rows[-1]['day']}"
    if result["gain"] is None:
        return f"{days}, all of them served by the first model"
    return (
        f"{days}; on {result['days_retrained']} of them a retrained model served: {_signed(result['gain'])} AUC "
        "(mean of the cells) against the one never retrained"
    )


def page(rows: Sequence[Row]) -> str:
    """The Markdown page: the sentence, and a table with a row per day."""
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
    order = {"domain": [row["day"] for row in rows]}  # without it, the days of the releases come first
    days = {"field": "day", "type": "ordinal", "title": None, "scale": order}
    bare = {**days, "axis": {"labels": False, "ticks": False}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "title": "Backtest: dashed where a release went live",
        "resolve": {"scale": {"color": "independent"}},
        "vconcat": [
            {"width": WIDTH, "height": 280, "layer": [_releases(rows, bare), _lines(rows, bare)]},
            _verdicts(rows, days),
        ],
    }


def _lines(rows: Sequence[Row], days: dict[str, Any]) -> dict[str, Any]:
    values = [
        {"day": row["day"], "model": name, "auc": row[key]}
        for row in rows
        for name, key in zip(COLOURS, ("mean", "frozen"), strict=True)
    ]
    dashes = {"domain": [*COLOURS], "range": [[1, 0], [6, 3]]}
    colours = {"domain": [*COLOURS], "range": [*COLOURS.values()]}
    return {
        "data": {"values": values},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": days,
            "strokeDash": {"field": "model", "legend": None, "scale": dashes},
            "y": {"field": "auc", "type": "quantitative", "title": "AUC, mean of the cells", "scale": {"zero": False}},
            "color": {"field": "model", "scale": colours, "title": None},
        },
    }


def _releases(rows: Sequence[Row], days: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"values": [{"day": row["day"]} for row in rows if row["released"]]},
        "encoding": {"x": days},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#667"},
    }


def _verdicts(rows: Sequence[Row], days: dict[str, Any]) -> dict[str, Any]:
    colour = {"field": "verdict", "legend": None, "scale": {"domain": [*VERDICTS], "range": [*VERDICTS.values()]}}
    return {
        "data": {"values": [{"day": row["day"], "verdict": row["verdict"]} for row in rows]},
        "width": WIDTH,
        "height": 24,
        "encoding": {"x": days | {"title": "verdict on drift"}},
        "layer": [
            {"mark": "rect", "encoding": {"color": colour}},
            {"mark": "text", "encoding": {"text": {"field": "verdict"}}},
        ],
    }
