"""The trial start of a release: with the store in use, with its own, and what is said where neither works."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ReleaseError
from release import rollback
from release.promote import promote
from release.registry import BENTO
from release.trial import check_whole, start_command
from serving.ranking.model_sources import RELEASED_STORE
from tests.support.release_project import RELEASES, champion, make_challenger, records


def release(folder: Path, *, store: bool) -> Path:
    """The folder of a release with a source, and with a store of its own or without."""
    made = folder / "abc"
    (made / BENTO / "src" / "serving").mkdir(parents=True)
    (made / BENTO / "src" / "serving" / "service.py").touch()
    if store:
        (made / RELEASED_STORE).parent.mkdir(parents=True)
        (made / RELEASED_STORE).touch()
    return made


def starting(faults: dict[bool, str | None]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A stand-in for the process of a trial start: its fault, by whether the store is that of the release."""

    def run(*_: object, env: dict[str, str], **__: object) -> subprocess.CompletedProcess[str]:
        fault = faults[env["HINET_ONLINE_STORE"].endswith(str(RELEASED_STORE))]
        error = f"Traceback (most recent call last):\n  File x\ncommon.errors.SnapshotError: {fault}\n"
        return subprocess.CompletedProcess([], fault is not None, stdout="", stderr=error)

    return run


@pytest.mark.unit
@pytest.mark.parametrize("store", [True, False])
def test_a_release_that_starts_with_the_store_in_use_needs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: bool
) -> None:
    """As `make champion` starts it; so does one that was released without a store of its own."""
    monkeypatch.setattr(subprocess, "run", starting({True: "damaged", False: None}))
    assert start_command(release(tmp_path, store=store)) == "`make champion`"


@pytest.mark.unit
def test_a_release_whose_code_does_not_look_for_its_store_is_pointed_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command names it, because a service of an older release reads the one in use only."""
    made = release(tmp_path, store=True)
    monkeypatch.setattr(subprocess, "run", starting({True: None, False: "of another schema"}))
    assert start_command(made) == f"`HINET_ONLINE_STORE={made / RELEASED_STORE} make champion`"


@pytest.mark.unit
def test_a_trial_is_of_nothing_but_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes no log, and starts neither the shadow model nor the challenger of a running service."""
    seen: list[dict[str, str]] = []

    def run(*_: object, env: dict[str, str], **__: object) -> subprocess.CompletedProcess[str]:
        seen.append(env)
        return subprocess.CompletedProcess([], 0, stdout="", stderr="")

    names = ("HINET_AB_CHALLENGER", "HINET_SHADOW", "HINET_IMPRESSION_LOG")
    for name in names:
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setattr(subprocess, "run", run)
    start_command(release(tmp_path, store=True))
    assert not set(names) & set(seen[0])


@pytest.mark.unit
@pytest.mark.parametrize(
    ("store", "faults", "message"),
    [
        (True, {True: "it is damaged", False: "of another schema"}, "cannot be started, nothing is changed: it is dam"),
        (False, {True: None, False: "of another schema"}, "of another schema. It was released without a store of its"),
    ],
)
def test_a_release_that_cannot_be_started_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: bool, faults: dict[bool, str | None], message: str
) -> None:
    """With the message of the service, and where its data come from."""
    monkeypatch.setattr(subprocess, "run", starting(faults))
    with pytest.raises(ReleaseError, match=message) as error:
        start_command(release(tmp_path, store=store))
    assert "`git log release`" in str(error.value)


@pytest.mark.unit
def test_a_release_that_needs_more_than_its_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started from its own store before it is released."""
    monkeypatch.setattr(subprocess, "run", starting({True: "it is damaged", False: None}))
    with pytest.raises(ReleaseError, match="abc does not start from its own folder: it is damaged"):
        check_whole(release(tmp_path, store=True))


@pytest.mark.integration
def test_a_rollback_to_what_cannot_be_started_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the link nor the records; the same for a damaged model."""
    promote()
    first = champion()
    make_challenger(seed=1)
    promote()
    second, before = champion(), records()

    def refuse(_: Path) -> str:
        raise ReleaseError("it cannot be started")

    with monkeypatch.context() as patch:
        patch.setattr(rollback, "start_command", refuse)
        with pytest.raises(ReleaseError, match="it cannot be started"):
            promote(rollback=True)
    assert (champion(), records()) == (second, before)
    weights = RELEASES / str(first) / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(Exception, match="expected sha256"):
        promote(rollback=True)
    assert (champion(), records()) == (second, before)


@pytest.mark.integration
def test_the_last_line_claims_only_what_was_observed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No service runs: neither a release nor a rollback says that one took it up."""
    promote()
    make_challenger(seed=1)
    promote()
    assert promote(rollback=True) == 0
    last = "no running service was seen to follow it: `make champion` starts one"
    assert capsys.readouterr().out.splitlines()[-1] == last
