"""A challenger trained on shuffled labels in one scenario, but otherwise as the champion, is rejected."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common import params, stage
from models.model_folder import read_model
from models.train import train
from release.comparison import compare
from release.policy import decide
from tests.support import world
from tests.support.training import encoded_world, train_settings

pytestmark = pytest.mark.integration

SPOILED = "search"
ROWS = 9_000


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The arguments of the stage: the tiny world, large enough for its planted structure to be learnt."""
    known = params.load()
    recipe = train_settings(epochs=6, patience=6, batch_size=128, learning_rate=0.004, average=0.9)
    monkeypatch.setattr(params, "load", lambda: known.model_copy(update={"train": recipe}))
    monkeypatch.setattr(stage, "threads", lambda: 1)
    monkeypatch.setattr(world, "tables", with_preferences(world.tables))
    return encoded_world(tmp_path, rows=ROWS)


def with_preferences(tables: Callable[..., dict[str, pd.DataFrame]]) -> Callable[..., dict[str, pd.DataFrame]]:
    """The tiny world with preferences that are learnt in seconds: even items in one scenario, odd ones elsewhere."""

    def changed(**size: int) -> dict[str, pd.DataFrame]:
        frames, random = tables(**size), np.random.default_rng(1)
        events = frames["events"]
        odd = events["item_id"] % 2 == 1
        chance = np.where(odd != (events["scenario"] == SPOILED), 0.7, 0.15)
        click = (random.random(len(events)) < chance).astype("int8")
        order = click * (random.random(len(events)) < 0.5).astype("int8")
        return frames | {"events": events.assign(click=click, order=order)}

    return changed


def spoil(tensors: Path, scenario: str) -> None:
    """Shuffle the labels of the training rows of one scenario: as many of each label, but on other rows."""
    rows = np.load(tensors / "scenario.npy") == world.schema().scenarios.index(scenario)
    labels = np.load(tensors / "labels.npy")
    labels[rows] = np.random.default_rng(0).permutation(labels[rows])
    np.save(tensors / "labels.npy", labels)


def test_labels_shuffled_in_one_scenario_reject_the_challenger(paths: dict[str, Path], tmp_path: Path) -> None:
    """The failed cells are of that scenario and of no other, and their sentences have the loss."""
    train(model="hinet", out=tmp_path / "champion", **paths)
    spoil(paths["tensors"] / "train", SPOILED)
    train(model="hinet", out=tmp_path / "challenger", **paths)
    champion, challenger = (read_model(tmp_path / name) for name in ("champion", "challenger"))
    release = params.load().release
    verdict = decide(compare(challenger, champion, tmp_path / "valid.parquet", release.confidence), [], release)
    failed = {rule.name: rule.sentence for rule in verdict.failed if rule.name.startswith("cell ")}
    assert failed
    assert set(failed) <= {f"cell {SPOILED}/click", f"cell {SPOILED}/order"}
    assert not verdict.passed
    for sentence in failed.values():
        loss = float(sentence.split(": worse by ")[1].split(",")[0])
        assert loss > 0.03
        assert sentence.endswith(f"beyond the guard of {release.guard:g}")
