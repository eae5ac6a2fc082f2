"""DVC's own files after a kill: half-written ones are repaired, so that the next run needs no help."""

import asyncio
from pathlib import Path

import pytest
from dvc.repo import Repo

from flows.stages.graph import reasons
from flows.stages.recovery import COPY, recovery, repair
from tests.support.flow_harness import write_repository

pytestmark = pytest.mark.process


@pytest.fixture
def built(workspace: Path) -> Path:
    """A workspace whose two stages are up to date."""
    write_repository(
        workspace, **{name: {"cmd": f"echo {name} > {name}", "outs": [name]} for name in ("first", "second")}
    )
    Repo().reproduce()
    return workspace


def run(*, dies: bool = False, breaks: str | None = None) -> list[str]:
    """A run that may damage dvc.lock, and may die; returns the lines of its log."""
    log: list[str] = []

    async def once() -> None:
        async with recovery(log=log.append):
            if breaks is not None:
                Path("dvc.lock").write_text(breaks)
            if dies:
                raise KeyboardInterrupt

    asyncio.run(once())
    return log


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_lock_file_cut_off_is_put_back(built: Path, share: float) -> None:
    """Wherever it is cut off: by the run itself, or by the next one where the run was killed, too."""
    whole = (built / "dvc.lock").read_text()
    cut = whole[: int(len(whole) * share)]
    if "second" in cut:  # a stage whose own entry is cut off is out of date for DVC
        cut = cut[: cut.index("second") - 1]
    assert run() == []
    assert run(breaks=cut) == ["dvc.lock was cut off by a kill: put back as of the last whole stage"]
    assert (built / "dvc.lock").read_text() == whole
    repair(print)  # a run has begun,
    (built / "dvc.lock").write_text(cut)  # and was killed
    assert len(run()) == 1
    assert (built / "dvc.lock").read_text() == whole
    assert reasons() == {}


def test_without_a_kill_nothing_is_kept(built: Path) -> None:
    """A lock file with fewer stages, as of another branch, is not a cut one."""
    assert run() == []
    assert not COPY.exists()
    (built / "dvc.lock").write_text((built / "dvc.lock").read_text().split("  second")[0])
    assert run() == []
    assert list(reasons()) == ["second"]


def test_a_list_of_users_that_is_cut_off_is_removed(built: Path) -> None:
    """With it, DVC would never run again."""
    users = built / ".dvc" / "tmp" / "rwlock"
    users.write_text('{"write": {"/a')
    assert run() == ["rwlock of DVC was cut off by a kill: removed"]
    assert reasons() == {}
