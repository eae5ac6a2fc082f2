"""The release registry: folders that are whole or not there, a link that is always valid, a log that only grows."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from common.errors import ReleaseError
from common.paths import MODEL, ROOT
from release.registry import CHAMPION, RECORDS, Record, Registry
from serving.ranking.followers import FOLLOWERS

DIES = """
import os, signal, sys
from pathlib import Path
from release.registry import Registry
left = int(sys.argv[1])
def die(event, _):
    global left
    if event in {"open", "os.rename", "os.mkdir", "os.symlink", "os.link", "os.remove", "os.rmdir", "shutil.copyfile"}:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
registry, made = Registry(Path(sys.argv[2])), Path(sys.argv[3])
record = {"event": "release", "tag": "d", "previous": "c"}
with registry.locked():
    sys.addaudithook(die)
    registry.prepare("d", model=made / "model", bento=made / "bento")
    registry.activate(record, keep=2)
    left = 1_000_000
"""


def make(folder: Path, text: str) -> Path:
    """A model and a bento whose files contain `text`."""
    for name in ("model/weights", "bento/src/code", "bento/bento.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} {text}")
    packed = folder / "bento" / "src" / MODEL
    packed.mkdir(parents=True, exist_ok=True)
    (packed / "weights").write_text(f"model/weights {text}")
    return folder


def record_of(tag: str, previous: str | None, **more: object) -> Record:
    """The record of a release."""
    return {"event": "release", "tag": tag, "previous": previous, **more}


def release(registry: Registry, made: Path, tag: str, *, keep: int = 5) -> None:
    """Release the model and the bento in `made` as `tag`."""
    with registry.locked():
        record = record_of(tag, registry.champion())
        registry.prepare(tag, model=made / "model", bento=made / "bento")
        registry.activate(record, keep=keep)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """The releases a, b and c, of which c is the champion."""
    registry = Registry(tmp_path / "releases")
    for tag in "abc":
        release(registry, make(tmp_path / tag, tag), tag)
    return registry


@pytest.mark.unit
def test_a_release_is_its_model_and_its_bento(registry: Registry) -> None:
    """Copied as they are, behind a relative link that can be moved with the folder."""
    assert registry.champion() == "c"
    assert (registry.folder / CHAMPION / "model" / "weights").read_text() == "model/weights c"
    assert (registry.folder / CHAMPION / "bento" / "src" / "code").read_text() == "bento/src/code c"
    assert str((registry.folder / CHAMPION).readlink()) == "c"
    assert [(r["tag"], r["previous"]) for r in registry.records()] == [("a", None), ("b", "a"), ("c", "b")]


@pytest.mark.unit
def test_a_release_does_not_need_the_cache_of_dvc(registry: Registry, tmp_path: Path) -> None:
    """Where the files of the pipeline are links into a cache, the release has files of its own."""
    made, cache = make(tmp_path / "d", "d"), tmp_path / "cache"
    cache.mkdir()
    for number, file in enumerate([path for path in made.rglob("*") if path.is_file()]):
        file.rename(cache / str(number)).chmod(0o444)
        file.symlink_to(cache / str(number))
    release(registry, made, "d")
    shutil.rmtree(cache)
    assert (registry.folder / CHAMPION / "model" / "weights").read_text() == "model/weights d"
    assert (registry.folder / CHAMPION / "bento" / "src" / "code").read_text() == "bento/src/code d"


@pytest.mark.unit
def test_the_model_of_a_release_is_stored_once(registry: Registry, tmp_path: Path) -> None:
    """Its file is another name of that in the bento, not of that which the pipeline writes; other bytes are kept."""
    release_c, made = registry.folder / "c", tmp_path / "c"
    assert (release_c / "model/weights").samefile(release_c / "bento/src" / MODEL / "weights")
    assert not (release_c / "model/weights").samefile(made / "model/weights")
    (made / "bento/src" / MODEL / "weights").write_text("of another model")
    release(registry, made, "d")
    assert (registry.folder / "d/model/weights").read_text() == "model/weights c"
    assert (registry.folder / "d/bento/src" / MODEL / "weights").read_text() == "of another model"


@pytest.mark.unit
def test_what_running_services_say_is_no_release(registry: Registry, tmp_path: Path) -> None:
    """The next release leaves it there, and nothing of it is a tag."""
    (registry.folder / FOLLOWERS).mkdir()
    (registry.folder / FOLLOWERS / "1.json").touch()
    release(registry, make(tmp_path / "d", "d"), "d")
    assert (registry.folder / FOLLOWERS / "1.json").exists()
    assert registry.tags() == ["a", "b", "c", "d"]


@pytest.mark.unit
def test_the_previous_release_is_the_one_that_was_replaced(registry: Registry, tmp_path: Path) -> None:
    """After a rollback, the next release replaces the one that was rolled back to."""
    assert (registry.previous("c"), registry.previous("b")) == ("b", "a")
    registry.append({"event": "rollback", "tag": "b", "previous": "c"})
    registry.set_champion("b")
    release(registry, make(tmp_path / "d", "d"), "d")
    assert registry.previous("d") == "b"
    with pytest.raises(ReleaseError, match="a is the first release"):
        registry.previous("a")


@pytest.mark.unit
def test_a_release_is_withdrawn_by_a_rollback_until_it_is_used_again(registry: Registry) -> None:
    """The record of the rollback is returned, with who and when."""
    assert registry.withdrawn("c") is None
    back = {"event": "rollback", "tag": "b", "previous": "c"}
    registry.append(back)
    assert registry.withdrawn("c") == back
    registry.append({"event": "rollback", "tag": "c", "previous": "b"})
    assert registry.withdrawn("c") is None


@pytest.mark.unit
def test_the_beginning_of_a_tag_is_enough_where_it_is_unique(registry: Registry, tmp_path: Path) -> None:
    """A tag that is unknown or ambiguous is an error with the tags that exist."""
    for tag in ("da1", "da2"):
        release(registry, make(tmp_path / tag, tag), tag)
    assert (registry.find("a"), registry.find("da2")) == ("a", "da2")
    for text in ("da", "z"):
        with pytest.raises(ReleaseError, match=rf"expected one release {text}, found .*'da1', 'da2'"):
            registry.find(text)


@pytest.mark.unit
def test_old_releases_are_removed_but_never_the_champion_nor_the_one_before(registry: Registry, tmp_path: Path) -> None:
    """Two are kept; the records of all stay."""
    release(registry, make(tmp_path / "d", "d"), "d", keep=2)
    assert registry.tags() == ["c", "d"]
    registry.set_champion("c")
    release(registry, make(tmp_path / "e", "e"), "e", keep=2)
    release(registry, make(tmp_path / "f", "f"), "f", keep=2)
    assert (registry.tags(), registry.champion()) == (["e", "f"], "f")
    assert [r["tag"] for r in registry.records()] == list("abcdef")


@pytest.mark.unit
def test_a_record_that_was_cut_off_is_left_out_and_not_continued(registry: Registry) -> None:
    """The next record begins on a new line; those before are unchanged."""
    path = registry.folder / RECORDS
    before = path.read_text()
    path.write_text(before + '{"event": "rel')
    registry.append(record_of("d", "c"))
    assert [r["tag"] for r in registry.records()] == list("abcd")
    assert path.read_text().startswith(before)


@pytest.mark.unit
def test_two_at_once_are_one_after_the_other(registry: Registry) -> None:
    """The second is an error; the lock is released at the end."""
    with registry.locked(), pytest.raises(ReleaseError, match="another release is under way"), registry.locked():
        pass
    with registry.locked():
        pass


@pytest.mark.process
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_step_the_link_is_valid_and_the_same_command_goes_on(
    registry: Registry, tmp_path: Path, stride: int
) -> None:
    """Kill -9 before each step on the disk: the champion is the old one or the new one, whole; then the new one.

    The log has the old records in any case, and one of the new release at the end. The quick test tries one step in 7.
    """
    made, lines, seen = make(tmp_path / "made", "d"), (registry.folder / RECORDS).read_text(), []
    for step in range(0, 1000, stride):
        folder = tmp_path / f"at-{step}"
        subprocess.run(["cp", "-a", registry.folder, folder], check=True)
        status = dying(step, folder, made)
        now = Registry(folder)
        seen.append(now.champion())
        assert whole(folder / CHAMPION) == now.champion()
        assert (folder / RECORDS).read_text().startswith(lines)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if step // stride % 4 == 0:  # each of them would take too long
            assert dying(1000, folder, made) == 0
            assert (now.champion(), whole(folder / CHAMPION), now.tags()) == ("d", "d", ["c", "d"])
            assert [r["tag"] for r in now.records()] == list("abcd")
            assert not list(folder.glob(".*.partial"))
    assert seen == ["c"] * seen.count("c") + ["d"] * seen.count("d")
    assert min(seen.count("c"), seen.count("d")) > 3 / stride, "killed before and after the link was exchanged"


def dying(step: int, folder: Path, made: Path) -> int:
    """The exit status of a release that kills itself before its step number `step`."""
    command = [sys.executable, "-S", "-c", DIES, str(step), str(folder), str(made)]
    packages = Path(filelock.__file__).parents[1]  # -S: Python starts faster without them
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(packages)}
    return subprocess.run(command, cwd=ROOT, check=False, env=os.environ | environment).returncode


def whole(folder: Path) -> str:
    """The text of the release in `folder`, which is the same in each of its files."""
    (text,) = {
        (folder / name).read_text().split()[1] for name in ("model/weights", "bento/src/code", "bento/bento.yaml")
    }
    return text


@pytest.mark.unit
def test_a_link_to_a_missing_release_is_an_error(registry: Registry) -> None:
    """With the releases that it can lead to."""
    registry.set_champion("gone")
    with pytest.raises(ReleaseError, match=r"leads to gone, which is not there: `--to` one of \['a', 'b', 'c'\]"):
        registry.champion()
    assert registry.linked_tag() == "gone"
