"""The Feast repository: Feast's own commands on the registry and the stores of the pipeline."""

import contextlib
import fcntl
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import FeatureStore

from common.errors import ParameterError
from common.paths import ROOT
from features.refresh import refresh
from features.store.item_snapshot import item_snapshot_path
from features.store.online_store import state_dir
from features.store.registry import RegistryUnavailableError
from tests.support.feast_repository import (
    REPOSITORY,
    as_project,
    feast,
    register,
    run_materialize,
    write_repository,
)
from tests.support.refreshed_store import FEATURES, rewrite_view, stored

pytestmark = pytest.mark.integration

ONLINE, VIEWS = Path("artifacts/online.db"), Path("data/features/views.json")
UNCHANGED = ("No changes to registry", "No changes to infrastructure")
PAGE = ROOT / "docs" / "how-to" / "feast.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after the pipeline; read it only."""
    return write_repository(tmp_path_factory.mktemp("feast") / "project")


@pytest.fixture
def folder(made: Path) -> Iterator[Path]:
    """The same project, to be changed by one test: its paths are in its registry, so it is put back afterwards."""
    kept = made.with_name("kept")
    shutil.copytree(made, kept)
    yield made
    shutil.rmtree(made)
    kept.rename(made)


def test_there_is_nothing_to_do_after_the_pipeline(folder: Path) -> None:
    """`plan` finds no change, `apply` makes none, and no output of the stage has another byte, also when repeated."""
    outputs = [folder / ONLINE, item_snapshot_path(folder / ONLINE)]
    before = [path.read_bytes() for path in outputs]
    for command in (["plan"], ["apply"], ["materialize-incremental", "2026-11-30T00:00:00"], ["plan"]):
        output = feast(folder, *command)
        assert "materialize" in command[0] or all(line in output for line in UNCHANGED), output
    assert [path.read_bytes() for path in outputs] == before


def test_the_registry_has_what_the_run_declares(folder: Path) -> None:
    """`plan` names a view that changed; after the stage `materialize` the registry has the new views and no others."""
    views = json.loads((folder / VIEWS).read_text())
    dropped = next(view for view in views if view["name"] == "user")["columns"].pop()["name"]
    kept = [view for view in views if view["name"] != "user_in_scenario"]
    (folder / VIEWS).write_text(json.dumps(kept))
    output = feast(folder, "plan")
    assert re.search(r"Updated feature view .*user", output)
    assert re.search(r"Deleted feature view .*user_in_scenario", output)
    run_materialize(folder)
    assert all(line in feast(folder, "plan") for line in UNCHANGED)
    listed = feast(folder, "feature-views", "list")
    assert "user_in_scenario" not in listed
    assert dropped not in feast(folder, "feature-services", "list")


def test_before_the_pipeline_the_next_step_is_named(folder: Path) -> None:
    """Without features there is a message, and no traceback."""
    (folder / VIEWS).unlink()
    assert re.search(r"Error: .*views.json does not exist.*: run `dvc repro` first", feast(folder, "plan"))


def test_materialized_in_steps_by_feast_the_store_is_that_of_the_pipeline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, timestamps and item snapshot equal those of the stage; older rows replace nothing, nor do equal ones."""
    monkeypatch.setenv("HINET_ONLINE_STORE", "artifacts/serving/online.db")
    own = folder / "artifacts/serving/online.db"
    own.parent.mkdir()
    before = (folder / ONLINE).read_bytes()
    assert all(line in feast(folder, "apply") for line in UNCHANGED)
    feast(folder, "materialize", "1900-01-01T00:00:00", "2026-01-08T00:00:00")
    assert stored(own) != stored(folder / ONLINE)
    feast(folder, "materialize-incremental", "2026-11-30T00:00:00")  # the registry knows the end of the other store
    assert stored(own) == stored(folder / ONLINE)
    assert item_snapshot_path(own).read_bytes() == item_snapshot_path(folder / ONLINE).read_bytes()
    for end in ("2026-01-08T00:00:00", "2026-11-30T00:00:00"):
        assert feast(folder, "materialize", "1900-01-01T00:00:00", end).count(": 0 rows written") == 3
    assert (folder / ONLINE).read_bytes() == before


def test_feast_and_the_refresh_take_turns_on_one_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, without_data_docs: None
) -> None:
    """What either writes, the other knows: the store is that of the newest run, whoever made it, and never goes back.

    Feast writes revised rows whose revision is withdrawn then: the refresh writes the first ones again, by itself and
    not because a sample differed. A refresh up to before the rows that Feast wrote is refused.
    """
    online, day = Path("artifacts/serving/online.db"), datetime(2026, 1, 8, 12, tzinfo=UTC)
    monkeypatch.setenv("HINET_ONLINE_STORE", str(online))
    users = folder / FEATURES / "user.parquet"
    first = users.read_bytes()
    refresh_to(folder, online, day)
    before = stored(folder / online)
    rewrite_view(folder, "user", "select * replace (user_impressions_7d + 1 as user_impressions_7d) from rows")
    materialized = feast(folder, "materialize", "1900-01-01T00:00:00", f"{day:%Y-%m-%dT%H:%M:%S}")
    assert "user: 12 rows written" in materialized, materialized
    assert stored(folder / online) != before
    users.write_bytes(first)
    assert refresh_to(folder, online, day + timedelta(hours=1))["again"] is False
    assert stored(folder / online) == before

    feast(folder, "materialize", "1900-01-01T00:00:00", "2026-01-10T12:00:00")
    ahead = stored(folder / online)
    with pytest.raises(ParameterError, match=r"Feast materialized rows of then.*--as-of 2026-01-10T01:00:00 or later"):
        refresh_to(folder, online, datetime(2026, 1, 9, 12, tzinfo=UTC))
    assert stored(folder / online) == ahead != before
    assert refresh_to(folder, online, datetime(2026, 1, 10, 12, tzinfo=UTC))["again"] is False
    assert stored(folder / online) == ahead
    refresh_to(folder, online, datetime(2026, 1, 11, 12, tzinfo=UTC))
    assert stored(folder / online) == stored(folder / ONLINE)


def test_feast_waits_for_no_refresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is at work its command ends with a message, without a traceback, and nothing is written."""
    monkeypatch.setenv("HINET_ONLINE_STORE", str(ONLINE))
    before = (folder / ONLINE).read_bytes()
    state_dir(folder / ONLINE).mkdir(exist_ok=True)
    with (state_dir(folder / ONLINE) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        output = feast(folder, "materialize", "1900-01-01T00:00:00", "2026-11-30T00:00:00")
    assert "online.db is locked: another refresh is at work. Run the same command later." in output
    assert (folder / ONLINE).read_bytes() == before


def refresh_to(folder: Path, online: Path, as_of: datetime) -> dict[str, Any]:
    """Refresh the store `online` up to `as_of`; returns the report."""
    with contextlib.chdir(folder):
        refresh(schema=Path("data/schema.json"), features=FEATURES, online=online, as_of=as_of, out=Path("out"))
        report: dict[str, Any] = json.loads(Path("out/refresh.json").read_text())
    return report


def test_a_fresh_clone_is_applied_with_the_end_of_its_store(folder: Path) -> None:
    """Without a registry, as after `dvc pull`, `apply` makes one; an increment begins where the pulled store ends."""
    (folder / "artifacts/registry.db").unlink()
    assert "Created feature service ranking" in re.sub(r"\x1b\[\d+m", "", feast(folder, "apply"))
    assert all(line in feast(folder, "plan") for line in UNCHANGED)
    output = feast(folder, "materialize-incremental", "2026-11-30T00:00:00")
    assert "from 2026-01-11 01:00:00+00:00" in re.sub(r"\x1b\[\d+m", "", output)


def test_the_lines_of_the_page_read_past_and_present(made: Path) -> None:
    """The six lines give the newest row before the timestamp, from the Parquet files, and the newest row of all."""
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(lines.split("\n\n")[1].strip().splitlines()) == 6
    names: dict = {}
    with as_project(made):
        exec(lines.replace("42", "4"), names)
    column = "user_impressions_7d"
    rows = pd.read_parquet(made / "data/features/user.parquet").query("user_id == 4").sort_values("event_timestamp")
    known = rows[rows["event_timestamp"] <= pd.Timestamp("2026-01-10 09:00")]
    assert names["past"][column].item() == known[column].iloc[-1] != rows[column].iloc[-1]
    assert names["now"][column].item() == rows[column].iloc[-1]


def test_both_settings_differ_in_the_registry_only() -> None:
    """What is said of stores and engine stands in two files, because Feast chooses a registry by file."""
    texts = [(ROOT / REPOSITORY / f"feature_store{name}.yaml").read_text() for name in ("", ".postgres")]
    first, second = [text[text.index("offline_store:") :] for text in texts]
    assert first == second


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("postgresql+psycopg://feast:secret@127.0.0.1:9/feast", RegistryUnavailableError, "HINET_FEAST_REGISTRY"),
        ("postgresql+nodriver://feast:secret@127.0.0.1/feast", ParameterError, "expected an address such as"),
        ("feast:secret", ParameterError, "expected an address such as"),
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_password(
    made: Path, address: str, error: type[Exception], message: str
) -> None:
    """The message names the variable; what can be tried again later has another error than what cannot."""
    with pytest.raises(error, match=message) as raised:
        register(made, address)
    assert "secret" not in str(raised.value).replace("user:password", "")


def test_a_notebook_reads_the_store_that_the_service_reads(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a store that is opened from the repository are those of the environment."""
    monkeypatch.delenv("HINET_ONLINE_STORE", raising=False)
    with as_project(made):
        assert FeatureStore(str(REPOSITORY)).config.online_store.path == str(made / ONLINE)
        monkeypatch.setenv("HINET_REDIS", "redis.example:6379,db=1")
        redis = FeatureStore(str(REPOSITORY)).config.online_store
        assert (redis.type, redis.connection_string.split(",")[0]) == ("redis", "redis.example:6379")
