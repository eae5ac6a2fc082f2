"""What flows run in when they are tested: Prefect's server with a database of its own, and a tiny DVC repository."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """A temporary server for the session; task runs and artifacts can be read back through its API."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def repository(root: Path, **stages: dict[str, object]) -> Path:
    """A DVC repository with these stages (as in dvc.yaml; `cmd` alone is enough), without git; returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["python", "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=root, check=True)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return root


def running(word: str) -> list[int]:
    """The processes whose command line holds `word`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in command and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
