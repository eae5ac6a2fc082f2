"""The evaluation of a challenger: what rejects it, and what cannot be evaluated."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from common.errors import ReleaseError
from common.exit_status import REJECTED
from features.store.item_snapshot import item_snapshot_path
from release import challenge
from release.promote import promote
from release.registry import RECORDS
from tests.support import tiny_project, world
from tests.support.release_project import (
    BENTO,
    ENCODER,
    RELEASES,
    champion,
    git,
    make_challenger,
    users_files,
)

pytestmark = pytest.mark.integration


def test_a_rejected_challenger_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither link, records, folders nor branch; the verdict has the failed rule, on the screen and as JSON."""
    promote()
    make_challenger(seed=1)
    world.write_params(root, encode__minimum_count=2, release__minimum_gain=0.9, release__sample=12)
    before, held = users_files(), sorted(map(str, RELEASES.rglob("*")))
    state = (champion(), (RELEASES / RECORDS).read_bytes(), git("rev-parse", "release"))
    assert promote(verdict=Path("artifacts/verdict.json")) == REJECTED
    assert (champion(), (RELEASES / RECORDS).read_bytes(), git("rev-parse", "release")) == state
    assert (users_files(), sorted(map(str, RELEASES.rglob("*")))) == (before, held)
    assert "expected the lower end above +0.9000, it lacks" in capsys.readouterr().out
    verdict = json.loads(Path("artifacts/verdict.json").read_text())
    assert not verdict["passed"]
    assert "mean" in [rule["name"] for rule in verdict["rules"] if not rule["passed"]]


def rejected_by(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The sentences of the rules that failed."""
    capsys.readouterr()
    assert promote() == REJECTED
    assert champion() is None
    return [line[6:] for line in capsys.readouterr().out.splitlines() if line.startswith("  NO ")]


def test_an_online_store_that_differs_rejects_the_challenger(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Overwritten values are detected, and so are the answers that the service would have given with them."""
    with contextlib.closing(sqlite3.connect(tiny_project.ONLINE)) as connection:
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            feature, value = connection.execute(f'select feature_name, value from "{table}" limit 1').fetchone()
            connection.execute(f'update "{table}" set value = ? where feature_name = ?', (value, feature))
        connection.commit()
    features, *_ = rejected_by(capsys)
    assert "online features equal the offline features" in features
    assert "they differ" in features


def test_another_model_in_the_bento_rejects_the_challenger(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bento that was not built again after training: its files differ, and so do its answers."""
    old = BENTO.rename("artifacts/old")
    make_challenger(seed=1)
    shutil.rmtree(BENTO)
    old.rename(BENTO)
    bento, served = rejected_by(capsys)
    assert "other files behaviour.json, model.json, weights.safetensors; run `dvc repro package`" in bento
    assert "12 rows differ, by up to" in served


def test_another_encoder_rejects_the_challenger(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fitted encoder is not the one in the model folder."""
    ENCODER.write_bytes(ENCODER.read_bytes() + b"\n")
    (sentence,) = rejected_by(capsys)
    assert "the served encoder is the trained one, artifacts/encoder.parquet: it differs" in sentence


def test_missing_files_are_an_error(root: Path) -> None:
    """With their names and the command that makes them."""
    for path in (tiny_project.ONLINE, item_snapshot_path(tiny_project.ONLINE)):
        path.unlink()
    shutil.rmtree(BENTO)
    names = r"bento/bento.yaml, artifacts/online.db, artifacts/online.items.parquet"
    with pytest.raises(ReleaseError, match=rf"{names}: expected .* run `dvc repro`"):
        promote()


def test_a_champion_of_another_log_cannot_be_compared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other scenarios: an error that has the way out."""
    promote()
    make_challenger(seed=1)
    read = challenge.read_model

    def other(folder: Path) -> Any:
        model = read(folder)
        if folder.name == "model":
            object.__setattr__(model, "schema", world.schema(scenarios=("home", "away")))
        return model

    monkeypatch.setattr(challenge, "read_model", other)
    with pytest.raises(ReleaseError, match=r"ranks .* in \('home', 'away'\).*they cannot be compared"):
        promote()
