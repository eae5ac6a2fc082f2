"""A copy of the project is worked in without the stores of the real one."""

import os
from pathlib import Path

import pytest

from flows.workspace.project_copy import inside

pytestmark = pytest.mark.unit


def test_a_copy_does_not_write_to_the_stores_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the copy neither Redis nor registry nor online store is named; afterwards all are, and the folder is."""
    named = {"HINET_REDIS": "redis:6379", "HINET_FEAST_REGISTRY": "sqlite:///r.db", "HINET_ONLINE_STORE": "in/use.db"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    before = Path.cwd()
    with inside(tmp_path):
        assert Path.cwd() == tmp_path.resolve()
        assert not set(named) & set(os.environ)
    assert Path.cwd() == before
    assert {name: os.environ[name] for name in named} == named
