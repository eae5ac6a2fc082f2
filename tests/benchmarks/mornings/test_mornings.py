"""The command `python -m benchmarks.mornings` on a tiny log whose taste flips."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mornings.__main__ import mornings
from common.errors import ParameterError
from tests.support.flipped_taste import write_run

pytestmark = pytest.mark.process
EPOCHS = 3  # of a training from nothing, at most


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the joined rows."""
    return write_run(tmp_path_factory.mktemp("run"))


def test_warm_follows_a_flipped_taste_and_frozen_falls(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fourth day has the old taste, the seventh the new one, of which the morning has rows of one day.

    The frozen model ranks them the wrong way round; the others have learned them, the warm one in one epoch. Called
    again, the command trains nothing, and refuses to continue with other days.
    """
    arguments: dict[str, Any] = {"run": run, "first": 4, "every": 3, "starts": "warm,frozen"}
    out = tmp_path / "mornings.json"
    mornings(**arguments, json=out)
    plain = json.loads(out.read_text())
    assert [(one["start"], one["day"]) for one in plain["runs"]] == [
        ("from nothing", "2026-01-08"),
        *((name, "2026-01-11") for name in ("from nothing", "warm", "frozen")),
    ]
    first, *last = (one["auc"] for one in plain["runs"])
    assert first > 0.75
    assert last[2] < 0.25
    assert min(last[:2]) > 0.75
    summary = plain["summary"]
    assert (summary["warm"]["epochs"], summary["frozen"]["epochs"]) == (1, 0)
    assert summary["warm"]["difference"] == pytest.approx(last[1] - last[0], abs=2e-6)
    assert 0 < summary["warm"]["share_of_time"] < 1
    assert "share of time" in capsys.readouterr().out
    written = out.read_bytes()
    mornings(**arguments, json=out)
    assert out.read_bytes() == written
    with pytest.raises(ParameterError, match="results with another every"):
        mornings(**arguments | {"every": 2}, json=out)
