"""Which tests the processes of `pytest -n` run: whole files, and all that need Prefect's server in one of them."""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

ONE_SERVER = "tests/flows/"  # the start of a server takes longer than most of these files


class Scheduling(LoadFileScheduling):
    """`--dist loadfile`, with the tests of the flows as one file."""

    def _split_scope(self, nodeid: str) -> str:
        return ONE_SERVER if nodeid.startswith(ONE_SERVER) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """The schedule of `--dist loadfile`."""
    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the processes of `-n`, files that start processes come first: one of them at the end would run beside none."""
    if hasattr(config, "workerinput"):
        files = {item.path for item in items if item.get_closest_marker("process")}
        items.sort(key=lambda item: item.path not in files)
