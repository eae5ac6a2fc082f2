"""A tiny project in Git with uncommitted work in it, in which challengers are released."""

import contextlib
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import params
from common.settings import read_settings
from features.schema import read_schema
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import read_model
from release.registry import CHAMPION, Registry
from serving.http.middleware import ApiMiddleware
from serving.http.routes import RankingApi
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from serving.service import model_folder
from tests.support import tiny_project, world

RELEASES, BENTO, ENCODER = Path("artifacts/releases"), Path("artifacts/bento"), Path("artifacts/encoder.parquet")
LENIENT = {"minimum_gain": -1.0, "guard": 0.99, "calibration": 1e9, "sample": 12}  # weights are random here
REQUESTS = (
    {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2, 8]},
    {"user_id": 1000, "scenario": "feed", "candidates": [2000, 0], "context": {"hour": 7}},
)


@contextlib.contextmanager
def release_project(project: Path, folder: Path) -> Iterator[Path]:
    """Copy `project` (after the pipeline) to `folder`, put it into Git, change files; it is the current folder then."""
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
