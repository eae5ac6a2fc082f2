"""Every stage with damaged inputs, a full disk, another user, another locale and time zone: a sentence, whole outputs.

The list of stages is derived from dvc.yaml and the source; a stage that does not run on the tiny project must be named.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.diagnosis import CHECKS, damage_of
from common.exit_status import DONE, USAGE
from common.run_identity import KEY, read_run
from tests.support import command_line, tiny_project
from tests.support.command_server import NOBODY, CommandServer, End, command_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1200)]
COMMANDS = command_line.all_commands()
TESTED_ELSEWHERE = {  # on the tiny project they have no input, no option, or another test of their own
    "features.draft",
    "features.ingest",
    "features.validate",
    "models.evaluate",
    "models.evaluation.results_table",
    "release.promote",
    "monitoring.drift",
    "monitoring.impression_window",
    "monitoring.index",
    "monitoring.timeline",
}
STAGES = [name for name in COMMANDS if not name.startswith(("flows", "benchmarks")) and name not in TESTED_ELSEWHERE]
KINDS = ("missing", "empty", "garbage", "truncated", "a folder for a file, or a file for a folder")
FILLED_ANEW = {("features.refresh", "online", "missing"), ("features.refresh", "online", "empty")}
# One changes a store in place, one is long, one has no events here: other tests compare what they write.
NOT_REPEATED = {"features.refresh", "models.train", "serving.collect"}
REGISTRY = "registry.db"  # of Feast: no artefact, its bytes have the time


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    """Commands without the time of their imports."""
    with command_server() as started:
        yield started


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """The tiny project after the pipeline, in a folder that every user can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield tiny_project.build(Path(folder) / "project", train__epochs=1)


@contextmanager
def copy_of(whole: Path) -> Iterator[Path]:
    """A copy of the project, which a test may spoil; it is gone afterwards, also where the test fails."""
    copy = whole.with_name("copy")
    try:
        yield Path(shutil.copytree(whole, copy))
    finally:
        shutil.rmtree(copy)


@pytest.fixture
def project(whole: Path) -> Iterator[Path]:
    """A copy of the project for one test."""
    with copy_of(whole) as copy:
        yield copy


def run(server: CommandServer, name: str, project: Path, **conditions: object) -> End:
    """The command with a value for each of its required options."""
    return server.run(name, command_line.line(command_line.values(COMMANDS[name])), folder=project, **conditions)


def outputs(project: Path) -> dict[str, bytes]:
    """The files that a command left under their final names."""
    files = (path for path in (project / "new").rglob("*") if path.is_file() and not _is_hidden(path, project))
    return {str(path.relative_to(project)): path.read_bytes() for path in files}


def content(name: str, written: bytes) -> object:
    """What a file holds, but for docs, BentoML's store, Feast's registry, and the id and time of its run.

    None where it has no other: the entries of the store have a creation time.
    """
    if name.startswith(("new/docs", "new/store")) or Path(name).name == REGISTRY:
        return None
    if Path(name).suffix == ".json" and read_run(document := json.loads(written)):
        return {key: value for key, value in document.items() if key != KEY}
    return written


def _is_hidden(path: Path, project: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(project).parts)


def assert_stopped(end: End) -> None:
    """The command ended with a sentence, and with the status of neither success nor wrong usage."""
    assert not end.has_traceback, end.output
    assert end.status not in (DONE, USAGE), end.output
    assert " stopped: " in end.output


@pytest.mark.parametrize("name", STAGES)
def test_a_damaged_input_is_named(server: CommandServer, whole: Path, name: str) -> None:
    """Whatever is wrong with an input, the command names a path below it, and leaves no broken file."""
    for option, value in command_line.values(COMMANDS[name]).items():
        if value.startswith("new/") or not (whole / value).exists():
            continue
        for kind in KINDS:
            with copy_of(whole) as project:
                command_line.damage(project / value, kind)
                end = run(server, name, project)
            if (name, option, kind) not in FILLED_ANEW:
                assert_stopped(end)
                assert value in end.output, (option, kind, end.output)


@pytest.mark.parametrize("name", [*STAGES, "features.ingest", "features.validate"])
@pytest.mark.parametrize("file_bytes", [0, 3000])
def test_a_full_disk_leaves_no_half_file(server: CommandServer, project: Path, name: str, file_bytes: int) -> None:
    """Where no file can be larger, the command says so, and every file under its final name is whole."""
    end = run(server, name, project, file_bytes=file_bytes)
    if end.status != DONE:  # DONE: all that it writes is smaller
        assert_stopped(end)
        assert "cannot be" in end.output or "full" in end.output, end.output
    broken = {path: damage_of(project / path) for path in outputs(project) if Path(path).suffix in CHECKS}
    assert not {path: why for path, why in broken.items() if why and Path(path).name != REGISTRY}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", [*STAGES, "features.ingest", "features.validate", "monitoring.index"])
def test_another_user_without_rights_gets_a_sentence(server: CommandServer, project: Path, name: str) -> None:
    """A user without an entry in /etc/passwd and without HOME, who may write nothing, learns which path is closed."""
    end = run(server, name, project, uid=NOBODY, environment={"HOME": None})
    assert_stopped(end)
    assert "is closed to this user" in end.output, end.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", STAGES)
def test_an_unreadable_folder_is_named(server: CommandServer, project: Path, name: str) -> None:
    """Inputs that the user may not read are named."""
    for folder in ("data", "artifacts"):
        (project / folder).chmod(0)
    end = run(server, name, project, uid=NOBODY, environment={"HOME": None})
    assert_stopped(end)
    assert "is closed to this user" in end.output, end.output


@pytest.mark.parametrize("name", [*sorted(set(STAGES) - NOT_REPEATED), "features.ingest", "features.validate"])
def test_locale_time_zone_and_user_do_not_change_the_bytes(server: CommandServer, project: Path, name: str) -> None:
    """In Tokyo, in Newfoundland, without UTF-8, without HOME: the same files, byte for byte."""
    conditions = (
        {"TZ": "UTC"},
        {"TZ": "Asia/Tokyo", "LC_ALL": "C", "LANG": "C"},
        {"TZ": "America/St_Johns", "LC_ALL": "POSIX", "HOME": None, "USER": None, "LOGNAME": None},
    )
    made = []
    for environment in conditions:
        end = run(server, name, project, environment=environment)
        assert end.status == DONE, end.output
        made.append({path: content(path, written) for path, written in outputs(project).items()})
        shutil.rmtree(project / "new", ignore_errors=True)
    assert made[0]
    assert all(files == made[0] for files in made), {p for m in made for p in m if m[p] != made[0].get(p)}
