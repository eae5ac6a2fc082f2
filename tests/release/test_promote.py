"""A release as a whole: policy, registry, branch and rollback, in a project with uncommitted work in it."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import params
from common.errors import ReleaseError
from common.exit_status import REJECTED
from common.paths import ROOT
from common.settings import read_settings
from features.schema import read_schema
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import read_model
from release import challenge
from release.promote import promote
from release.registry import CHAMPION, RECORDS, Registry
from serving.http.middleware import ApiMiddleware
from serving.http.routes import RankingApi
from serving.ranking.loaded_model import ModelSources
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from serving.service import model_folder
from tests.support import tiny_project, world

pytestmark = pytest.mark.integration

RELEASES, BENTO, ENCODER = Path("artifacts/releases"), Path("artifacts/bento"), Path("artifacts/encoder.json")
LENIENT = {"minimum_gain": -1.0, "guard": 0.99, "calibration": 1e9, "sample": 12}  # weights are random here
REQUESTS = (
    {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2, 8]},
    {"user_id": 1000, "scenario": "feed", "candidates": [2000, 0], "context": {"hour": 7}},
)


@pytest.fixture
def root(project: Path, tmp_path: Path) -> Iterator[Path]:
    """A project after the pipeline, in Git, with uncommitted work in tree and index; the current folder."""
    folder = tmp_path / "project"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "data").symlink_to(project / "data")
    stores = (tiny_project.ONLINE, item_snapshot_path(tiny_project.ONLINE))
    for name in (ENCODER, *stores, Path("artifacts/reference.json")):
        shutil.copyfile(project / name, folder / name)
    settings = {f"release__{name}": value for name, value in LENIENT.items()}
    world.write_params(folder, encode__minimum_count=2, **settings)
    with contextlib.chdir(folder):
        start_history()
        make_challenger(seed=0)
        yield folder


def start_history() -> None:
    """A first commit, then work: a changed file, a staged one, an untracked one, new reports."""
    for name, text in ((".gitignore", "/data\n/artifacts\n"), ("code.py", "1"), ("dvc.lock", "1"), ("reports/a", "1")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.com")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    for name in ("code.py", "dvc.lock", "reports/a", "reports/new", "staged.py", "untracked.py"):
        Path(name).write_text("2")
    git("add", "staged.py")


def git(*command: str) -> str:
    """The output of a Git command in the current folder."""
    return subprocess.run(["git", *command], check=True, capture_output=True, text=True).stdout


def make_challenger(*, seed: int) -> str:
    """Write another model of random weights where the pipeline does, and a bento of it; returns the model's tag."""
    shutil.rmtree(tiny_project.MODEL, ignore_errors=True)
    shutil.rmtree(BENTO, ignore_errors=True)
    data = Path("data")
    tiny_project.write_random_model(
        tiny_project.MODEL,
        schema=data / "schema.json",
        views=data / "features" / "views.json",
        encoder=ENCODER,
        reference=Path("artifacts/reference.json"),
        valid=data / "tensors" / "valid",
        seed=seed,
    )
    tag = read_model(tiny_project.MODEL).tag
    shutil.copytree(tiny_project.MODEL, BENTO / "src" / tiny_project.MODEL)
    shutil.copyfile(tiny_project.ONLINE, BENTO / "src" / tiny_project.ONLINE)
    (BENTO / "bento.yaml").write_text(yaml.safe_dump({"name": "hinet", "version": tag}))
    return tag


def champion() -> str | None:
    """The tag of the champion."""
    return Registry(RELEASES).champion()


def records() -> list[dict[str, Any]]:
    """The records of the registry."""
    return Registry(RELEASES).records()


def users_files() -> dict[str, bytes]:
    """What a release must not change: tree, index, HEAD and the user's branch."""
    listed = [*Path().glob("*"), *Path("reports").rglob("*"), Path(".git/index"), Path(".git/HEAD")]
    files = {str(path): path.read_bytes() for path in listed if path.is_file()}
    return files | {"status": git("status", "--porcelain").encode(), "branch": git("rev-parse", "main").encode()}


def test_the_first_release_is_recorded_and_committed_and_touches_no_work(root: Path) -> None:
    """Tree, index and HEAD do not change by a byte; the branch has lock, reports, parameters and the record."""
    tag, before = read_model(tiny_project.MODEL).tag, users_files()
    assert promote() == 0
    assert users_files() == before
    assert champion().startswith(f"{tag}-")
    (record,) = records()
    assert record["tag"] == champion()
    assert (record["event"], record["previous"], record["who"], record["model"]) == ("release", None, "Ada", tag)
    assert (record["bento"], record["revision"]) == (f"hinet:{tag}", git("rev-parse", "main").strip())
    assert record["changed"] == ["code.py", "staged.py"]
    assert len(record["data"]) == len(record["params"]) == 64
    assert set(record["metrics"]["cells"]) <= {f"{s}/{t}" for s in world.schema().scenarios for t in ("click", "order")}
    assert datetime.fromisoformat(record["when"]).utcoffset() is not None
    assert record["commit"] == git("rev-parse", "release").strip()
    shown = {name: git("show", f"release:{name}") for name in ("dvc.lock", "reports/a", "reports/new", "code.py")}
    assert shown == {"dvc.lock": "2", "reports/a": "2", "reports/new": "2", "code.py": "1"}
    assert json.loads(git("show", "release:reports/release.json"))["tag"] == champion()
    assert git("log", "--format=%P", "-1", "release") == git("rev-parse", "main")


def test_a_second_promotion_of_the_champion_changes_nothing(root: Path) -> None:
    """Nothing is evaluated, recorded or committed."""
    promote()
    before, tip = (RELEASES / RECORDS).read_bytes(), git("rev-parse", "release")
    assert promote(verdict=Path("artifacts/verdict.json")) == 0
    assert ((RELEASES / RECORDS).read_bytes(), git("rev-parse", "release")) == (before, tip)
    assert "is the champion already" in json.loads(Path("artifacts/verdict.json").read_text())["rules"][0]["sentence"]


def answers() -> list[bytes]:
    """The answers of the service with the champion as its model, over HTTP in this process."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # starlette's on httpx
        from starlette.testclient import TestClient

        patch.setenv("HINET_MODEL", str(Path.cwd() / RELEASES / CHAMPION / "model"))
        folder, api, settings = model_folder(read_settings()), RankingApi(), params.load().serve
        ranker = open_ranker(
            ModelSources(folder, tiny_project.ONLINE, Path("artifacts/registry.db")),
            tiny_project.with_read_timeout(Path()),
        )
        api.open(ranker, request_type(read_schema(folder / "schema.json"), settings), settings, model_info=dict)
        client = TestClient(ApiMiddleware(api=api))
        responses = [client.post("/rank", json=request) for request in REQUESTS]
    assert all(response.status_code == 200 for response in responses)
    return [response.content for response in responses]


def test_a_rollback_restores_the_answers_to_the_byte(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command to the release before; the withdrawn release does not return by itself, but by its tag."""
    promote()
    first, answers_of_first = champion(), answers()
    make_challenger(seed=1)
    assert promote() == 0
    second, answers_of_second = champion(), answers()
    assert second != first
    assert answers_of_second != answers_of_first
    assert "against the champion" in capsys.readouterr().out

    assert promote(rollback=True) == 0
    assert (champion(), answers()) == (first, answers_of_first)
    assert promote() == REJECTED
    assert f"Ada went back from {second}" in capsys.readouterr().out
    assert champion() == first

    assert promote(to=second[:8]) == 0
    assert (champion(), answers()) == (second, answers_of_second)
    assert [(r["event"], r["tag"]) for r in records()] == [
        ("release", first),
        ("release", second),
        ("rollback", first),
        ("rollback", second),
    ]
    assert git("rev-list", "--count", "--first-parent", "release").strip() == "3"  # the first commit, and two releases


def test_there_is_nothing_before_the_first_release(root: Path) -> None:
    """Neither a rollback without any release, nor from the first."""
    with pytest.raises(ReleaseError, match="has no champion yet"):
        promote(rollback=True)
    promote()
    with pytest.raises(ReleaseError, match="is the first release, there is none to go back to"):
        promote(rollback=True)
    with pytest.raises(ReleaseError, match="expected one release nothing, found none"):
        promote(to="nothing")


def test_a_champion_that_was_removed_can_be_replaced(root: Path) -> None:
    """By any release that exists; a challenger is not compared with a missing one."""
    promote()
    first = champion()
    make_challenger(seed=1)
    promote()
    shutil.rmtree(RELEASES / champion())
    with pytest.raises(ReleaseError, match=rf"which is not there: `--to` one of \['{first}'\]"):
        promote()
    assert promote(to=first) == 0
    assert champion() == first


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
    ENCODER.write_text(ENCODER.read_text() + "\n")
    (sentence,) = rejected_by(capsys)
    assert "the served encoder is the trained one, artifacts/encoder.json: it differs" in sentence


def test_a_release_killed_between_commit_and_link_is_released_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command completes it: one commit, one record."""
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "activate", _die)
        with pytest.raises(KeyboardInterrupt):
            promote()
    tip = git("rev-parse", "release").strip()
    assert champion() is None
    assert promote() == 0
    assert git("rev-parse", "release").strip() == tip == records()[0]["commit"]
    assert len(records()) == 1


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_branch_that_is_checked_out_is_not_moved(root: Path) -> None:
    """A release would move it under a working tree."""
    git("branch", "release")
    git("symbolic-ref", "HEAD", "refs/heads/release")
    with pytest.raises(ReleaseError, match=r"the branch release is checked out in .*project"):
        promote()


def test_without_git_a_release_has_no_commit(root: Path) -> None:
    """Everything else is the same."""
    shutil.rmtree(".git")
    assert promote() == 0
    (record,) = records()
    assert (record["revision"], record["changed"], record["commit"]) == (None, [], None)


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


@pytest.mark.process
def test_as_a_process_it_fails_with_one_sentence_and_status_one(root: Path) -> None:
    """`python -m release.promote` from the root of the project."""
    command = [sys.executable, "-m", "release.promote", "--rollback"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("has no champion yet, there is nothing to go back from")
