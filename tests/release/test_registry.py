"""The folder of the releases: whole or not there, a pointer that is always valid, and a file that only grows."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ReleaseError
from common.paths import ROOT
from release.registry import CHAMPION, RECORDS, Record, Releases, digest

DIES = """
import os, signal, sys
from pathlib import Path
from release.registry import Releases
left = int(sys.argv[1])
def die(event, _):
    global left
    if event in {"open", "os.rename", "os.mkdir", "os.symlink", "os.remove", "os.rmdir", "shutil.copyfile"}:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
held, made = Releases(Path(sys.argv[2])), Path(sys.argv[3])
record = {"event": "release", "tag": "d", "previous": "c"}
with held.locked():
    sys.addaudithook(die)
    held.prepare("d", model=made / "model", bento=made / "bento")
    held.publish(record, keep=2)
    left = 1_000_000
"""


def make(folder: Path, text: str) -> Path:
    """A model and a bento that say `text`."""
    for name in ("model/weights", "bento/src/code", "bento/bento.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} {text}")
    return folder


def released(tag: str, previous: str | None, **more: object) -> Record:
    """The record of a release."""
    return {"event": "release", "tag": tag, "previous": previous, **more}


def publish(held: Releases, made: Path, tag: str, *, keep: int = 5) -> None:
    """Release what `made` holds as `tag`."""
    with held.locked():
        record = released(tag, held.champion())
        held.prepare(tag, model=made / "model", bento=made / "bento")
        held.publish(record, keep=keep)


@pytest.fixture
def held(tmp_path: Path) -> Releases:
    """The releases a, b and c, of which c is the champion."""
    found = Releases(tmp_path / "releases")
    for tag in "abc":
        publish(found, make(tmp_path / tag, tag), tag)
    return found


def test_a_release_is_its_model_and_its_bento(held: Releases) -> None:
    """Copied as they are, behind a relative link that can be moved with the folder."""
    assert held.champion() == "c"
    assert (held.folder / CHAMPION / "model" / "weights").read_text() == "model/weights c"
    assert (held.folder / CHAMPION / "bento" / "src" / "code").read_text() == "bento/src/code c"
    assert str((held.folder / CHAMPION).readlink()) == "c"
    assert [(r["tag"], r["previous"]) for r in held.records()] == [("a", None), ("b", "a"), ("c", "b")]


def test_the_release_before_is_the_one_that_was_replaced(held: Releases, tmp_path: Path) -> None:
    """After a way back, what is released next replaces what was gone back to."""
    assert (held.before("c"), held.before("b")) == ("b", "a")
    held.record({"event": "rollback", "tag": "b", "previous": "c"})
    held.point("b")
    publish(held, make(tmp_path / "d", "d"), "d")
    assert held.before("d") == "b"
    with pytest.raises(ReleaseError, match="a is the first release"):
        held.before("a")


def test_what_was_gone_back_from_is_withdrawn_until_somebody_takes_it_again(held: Releases) -> None:
    """The record of the way back is given, with who and when."""
    assert held.withdrawn("c") is None
    back = {"event": "rollback", "tag": "b", "previous": "c"}
    held.record(back)
    assert held.withdrawn("c") == back
    held.record({"event": "rollback", "tag": "c", "previous": "b"})
    assert held.withdrawn("c") is None


def test_a_tag_may_be_cut_where_it_is_clear(held: Releases, tmp_path: Path) -> None:
    """The beginning is enough; what is not there, or is two, is told with what is there."""
    for tag in ("da1", "da2"):
        publish(held, make(tmp_path / tag, tag), tag)
    assert (held.find("a"), held.find("da2")) == ("a", "da2")
    for text in ("da", "z"):
        with pytest.raises(ReleaseError, match=rf"expected one release {text}, found .*'da1', 'da2'"):
            held.find(text)


def test_old_releases_are_forgotten_but_never_the_champion_nor_the_one_before(held: Releases, tmp_path: Path) -> None:
    """Two are kept; the lines of all stay."""
    publish(held, make(tmp_path / "d", "d"), "d", keep=2)
    assert held.tags() == ["c", "d"]
    held.point("c")
    publish(held, make(tmp_path / "e", "e"), "e", keep=2)
    publish(held, make(tmp_path / "f", "f"), "f", keep=2)
    assert (held.tags(), held.champion()) == (["e", "f"], "f")
    assert [r["tag"] for r in held.records()] == list("abcdef")


def test_a_line_that_was_cut_is_left_out_and_not_written_on(held: Releases) -> None:
    """The next line begins on its own; those before are as they were."""
    path = held.folder / RECORDS
    before = path.read_text()
    path.write_text(before + '{"event": "rel')
    held.record(released("d", "c"))
    assert [r["tag"] for r in held.records()] == list("abcd")
    assert path.read_text().startswith(before)


def test_two_at_once_are_one_after_the_other(held: Releases) -> None:
    """The second is told; a lock ends with its process, so none can stay behind."""
    with held.locked(), pytest.raises(ReleaseError, match="another release is under way"), held.locked():
        pass
    with held.locked():
        pass


def test_killed_at_any_moment_the_pointer_is_valid_and_the_same_command_goes_on(held: Releases, tmp_path: Path) -> None:
    """Kill -9 before each step on the disk: the champion is the old one or the new one, whole; then it is the new one.

    The file of what happened has the old lines in any case, and one of the new release at the end.
    """
    made, lines, seen = make(tmp_path / "made", "d"), (held.folder / RECORDS).read_text(), []
    for moment in range(1000):
        folder = tmp_path / f"at-{moment}"
        subprocess.run(["cp", "-a", held.folder, folder], check=True)
        status = dying(moment, folder, made)
        now = Releases(folder)
        seen.append(now.champion())
        assert whole(folder / CHAMPION) == now.champion()
        assert (folder / RECORDS).read_text().startswith(lines)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if moment % 4 == 0:  # each of them would take too long
            assert dying(1000, folder, made) == 0
            assert (now.champion(), whole(folder / CHAMPION), now.tags()) == ("d", "d", ["c", "d"])
            assert [r["tag"] for r in now.records()] == list("abcd")
            assert not list(folder.glob(".*.partial"))
    assert seen == ["c"] * seen.count("c") + ["d"] * seen.count("d")
    assert min(seen.count("c"), seen.count("d")) > 3, "killed before and after the pointer moved"


def dying(moment: int, folder: Path, made: Path) -> int:
    """The exit status of a release that kills itself before its step number `moment`."""
    command = [sys.executable, "-S", "-c", DIES, str(moment), str(folder), str(made)]
    return subprocess.run(command, cwd=ROOT, check=False, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}).returncode


def whole(folder: Path) -> str:
    """What the release in `folder` says, the same in each of its files."""
    (said,) = {
        (folder / name).read_text().split()[1] for name in ("model/weights", "bento/src/code", "bento/bento.yaml")
    }
    return said


def test_the_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    """The same in another place; another name, another byte: another digest. What Python compiled does not count."""
    one, same, other = (make(tmp_path / name, text) for name, text in (("1", "x"), ("2", "x"), ("3", "y")))
    (same / "bento" / "src" / "__pycache__").mkdir()
    (same / "bento" / "src" / "__pycache__" / "code.pyc").write_text("compiled")
    assert digest(one) == digest(same) != digest(other)
    (one / "model" / "weights").rename(one / "model" / "heights")
    assert digest(one) != digest(same)


def test_a_pointer_to_nowhere_is_told(held: Releases) -> None:
    """With what can be done about it."""
    held.point("gone")
    with pytest.raises(ReleaseError, match=r"leads to gone, which is not there: `--to` one of \['a', 'b', 'c'\]"):
        held.champion()
    assert held.pointed() == "gone"
