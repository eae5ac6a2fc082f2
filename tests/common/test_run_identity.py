"""The identity of a run: made once for a process, written into its report, read back from any document."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.run_identity import VARIABLE, RunIdentity, read_run, this_run

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("run"), inner, max_size=4),
    max_leaves=8,
)


def test_the_id_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow knows the id of the process that it started; the time is in UTC."""
    monkeypatch.setenv(VARIABLE, "one")
    run = this_run("abc")
    assert (run.id, run.data) == ("one", "abc")
    age = datetime.now(UTC) - datetime.fromisoformat(run.time)
    assert 0 <= age.total_seconds() < 60
    assert read_run({"verdict": "ok"} | run.block()) == run


@pytest.mark.parametrize("value", [None, ""])
def test_without_an_id_of_a_flow_each_run_has_its_own(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is unset."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert this_run(None).id != this_run(None).id


@given(JSON)
def test_no_document_is_an_error(document: object) -> None:
    """Any JSON has an identity of the right types, or none."""
    run = read_run(document)
    assert run is None or isinstance(run.id + run.time + (run.data or ""), str)


@pytest.mark.parametrize(
    "block", [None, [], {}, {"id": 1, "time": "t", "data": None}, {"id": "1", "time": "t", "data": 2}]
)
def test_a_block_of_another_layout_is_no_identity(block: object) -> None:
    """A report of an older version has none, and is never that of a run."""
    assert read_run({"run": block}) is None
    assert read_run({"run": {"id": "1", "time": "t", "data": None}}) == RunIdentity(id="1", time="t", data=None)
