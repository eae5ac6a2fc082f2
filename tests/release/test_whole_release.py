"""Releases with real processes: the tree changes under the champion; it is started, rolled back and started again."""

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.yaml_file import dump_yaml
from features.schema import read_views
from features.store.item_snapshot import item_snapshot_path
from features.store.snapshot_writer import write_snapshot
from release.promote import promote
from serving.bento.build import build_bento
from tests.support import project_clone, tiny_project, world
from tests.support.release_project import BENTO, RELEASES, REQUESTS, champion, make_challenger
from tests.support.release_project import answers as answers_in_this_process
from tests.support.service_process import bentoml_serve, complete_answer, wait_until_ready
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]
AS_OF = datetime(2026, 1, 11, 1, tzinfo=UTC)


def make_candidate(seed: int) -> None:
    """A challenger with a bento that can be served."""
    make_challenger(seed=seed)
    shutil.rmtree(BENTO)
    build_bento(model=tiny_project.MODEL, online=tiny_project.ONLINE, out=BENTO)


def make_release(seed: int) -> str:
    """Release such a challenger; its tag."""
    make_candidate(seed)
    assert promote() == 0
    return str(champion())


def serving(root: Path) -> Any:
    """The service as `make champion` starts it in the folder `root`."""
    releases = root.absolute() / RELEASES
    sources = {
        "HINET_MODEL": releases / "champion" / "model",
        "HINET_ONLINE_STORE": root.absolute() / tiny_project.ONLINE,
    }
    return bentoml_serve([releases / str(champion()) / "bento"], root, root / "artifacts" / "bentoml", **sources)


def answers(client: httpx.Client) -> list[bytes]:
    """The answers to the requests, once the service is ready."""
    wait_until_ready(client)
    return [complete_answer(client, request).content for request in REQUESTS]


def change_the_tree(root: Path) -> None:
    """Another schema in the store in use, and no data, encoder, model or bento of the pipeline."""
    views, features = read_views(root / "data/features/views.json"), root / "data" / "features"
    other = world.schema(scenarios=("home", "away"))
    write_snapshot(other, views, features=features, as_of=AS_OF, path=item_snapshot_path(root / tiny_project.ONLINE))
    (root / "data").unlink()
    for name in ("models", "bento"):
        shutil.rmtree(root / "artifacts" / name)
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("timeout_ms: 50", "timeout_ms: 51"))


def dvc(*arguments: str) -> None:
    """A command of DVC in the current folder."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, env=project_clone.environment())


def commit_outputs() -> set[Path]:
    """Move the outputs of the tree into DVC's cache, where they are links to; the files of the cache."""
    outputs = [tiny_project.MODEL, BENTO, tiny_project.ONLINE, item_snapshot_path(tiny_project.ONLINE)]
    stage = {"cmd": "true", "outs": [str(path) for path in outputs]}
    Path("dvc.yaml").write_text(dump_yaml({"stages": {"package": stage}}))
    dvc("commit", "--quiet", "--force")
    dvc("checkout", "--quiet", "--relink")
    assert tiny_project.ONLINE.is_symlink()
    return cached()


def cached() -> set[Path]:
    """The files of DVC's cache."""
    return {path for path in Path(".dvc/cache/files").rglob("*") if path.is_file()}


def test_a_champion_outlives_the_garbage_collection(root: Path) -> None:
    """`dvc gc` after a newer model, with links into the cache: the release before starts, and answers as it did."""
    Path("dvc.lock").unlink()
    dvc("init", "--quiet")
    dvc("config", "cache.type", "symlink")
    make_candidate(seed=0)
    of_first_outputs = commit_outputs()
    assert promote() == 0
    first, of_first = champion(), answers_in_this_process()
    make_candidate(seed=1)
    commit_outputs()
    assert promote() == 0
    dvc("gc", "--workspace", "--force", "--quiet")
    assert of_first_outputs - cached(), "nothing was collected"
    assert promote(rollback=True) == 0
    with serving(root) as client:
        assert (champion(), answers(client)) == (first, of_first)


def test_a_champion_outlives_its_tree(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Releases, reload, change of the schema, rollback, restart, a moved folder: the answers of the release, always.

    The last line of a release and of a rollback names the process that took it up; a stop takes less than 10 s.
    """
    first = make_release(seed=0)
    with serving(root) as client:
        of_first = answers(client)
        second = make_release(seed=1)
        assert "in use by the running process" in capsys.readouterr().out.splitlines()[-1]
        wait_until(lambda: answers(client) != of_first)
        of_second = answers(client)
        change_the_tree(root)
        time.sleep(6)  # the service looks at its files
        assert answers(client) == of_second
        assert promote(rollback=True) == 0
        assert "in use by the running process" in capsys.readouterr().out.splitlines()[-1]
        assert (champion(), answers(client)) == (first, of_first)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 10
    moved = root.rename(root.with_name("moved"))
    for path in (moved / "artifacts").iterdir():
        if path.name != RELEASES.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.chdir(moved)
    assert promote(to=second) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("no running service was seen to follow it")
    with serving(moved) as client:
        assert answers(client) == of_second
