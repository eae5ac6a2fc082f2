"""Feast's commands in this process, on the repository of a small project after `aggregate` and `materialize`."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import common.paths
from common.paths import ROOT
from features.materialize import materialize
from features.schema import read_schema, read_views
from features.store import in_use
from features.store.offline_store import newest_timestamp
from features.store.registry import register_in_database
from tests.support import world

REPOSITORY = Path("features/store")
FILES = ("feature_store.yaml", "feature_store.postgres.yaml", "repository.py", ".feastignore")


def write_repository(folder: Path) -> Path:
    """The tiny world under `folder` as after the pipeline, with the files that Feast reads; returns `folder`."""
    world.write_features(folder / "data", world.tables(rows=600))
    shutil.copy(folder / "data" / "params.yaml", folder)
    (folder / REPOSITORY).mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / REPOSITORY / name, folder / REPOSITORY)
    run_materialize(folder)
    return folder


def run_materialize(folder: Path) -> None:
    """The stage `materialize`."""
    with contextlib.chdir(folder):
        materialize(schema=Path("data/schema.json"), features=Path("data/features"), online=Path("artifacts/online.db"))


@contextmanager
def as_project(folder: Path) -> Iterator[None]:
    """Within the block, `folder` is the root of the project, and the current folder."""
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        for module in (common.paths, in_use):
            patch.setattr(module, "ROOT", folder)
        yield


def feast(folder: Path, *words: str) -> str:
    """What `feast -c features/store WORDS` prints in `folder`; fails where that ends by a traceback."""
    from feast.cli.cli import cli  # seconds, which not every test of this folder needs

    with as_project(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "dont_write_bytecode", True)  # Feast sets it for good
        sys.modules.pop("repository", None)
        done = CliRunner().invoke(cli, ["-c", str(REPOSITORY), *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return str(done.output)


def register(folder: Path, address: str) -> None:
    """Register the views of `folder` in a database."""
    views = read_views(folder / "data/features/views.json")
    register_in_database(
        address,
        read_schema(folder / "data/schema.json"),
        views,
        features=folder / "data/features",
        online=folder / "artifacts/online.db",
        redis=None,
        as_of=newest_timestamp(views, folder / "data/features"),
    )
