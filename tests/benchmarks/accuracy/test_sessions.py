"""benchmarks/accuracy/sessions.py: what session features are worth."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy import sessions as benchmark
from benchmarks.accuracy.sessions import NONE, sessions, summarize
from common.errors import ParameterError


def cells(*clicks: float, orders: float = 0.5) -> dict[str, object]:
    """Two cells: the AUC of clicks by seed, and that of orders, the same for each."""
    return {"cells": {"S1/T1": {"values": list(clicks)}, "S1/T2": {"values": [orders] * len(clicks)}}}


@pytest.mark.unit
def test_the_gain_is_paired_by_seed() -> None:
    """Over all cells and over those of the first task, with the standard error of the differences."""
    assert summarize({NONE: cells(0.7, 0.8), "session": cells(0.72, 0.84)}) == [
        (NONE, "0.6250", "", "0.7500", ""),
        ("session", "0.6400", "+0.0150 ± 0.0050", "0.7800", "+0.0300 ± 0.0100"),
    ]


@pytest.mark.unit
def test_an_unknown_setting_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(ParameterError, match="--settings none at all: expected some of no session features; lists"):
        sessions(settings="none at all")


@pytest.mark.slow
@pytest.mark.process
def test_candidates_that_are_compared_gain_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small log with strong visits the gain is there, and the limit that knows the visits is above the other."""
    small = {"impressions": 30_000, "users": 300, "items": 100, "session_effect": 3}
    monkeypatch.setattr(benchmark, "SIMULATION", small)
    out = tmp_path / "sessions.json"
    sessions(seeds=1, settings="candidates compared, too", processes=1, json=out)
    table = json.loads(out.read_text())
    without, compared = (model["mean_auc"] for model in table["settings"].values())
    assert compared > without + 0.01
    known, unknown = table["limits"].values()
    assert known > unknown
