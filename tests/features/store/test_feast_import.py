"""Feast is imported without the instrumentation of its runtime type checks, by whichever module imports it first."""

import subprocess
import sys

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.process

CODE = """
import importlib, sys
importlib.import_module(sys.argv[1])
import feast
methods = [method for method in vars(feast.Entity).values() if hasattr(method, "__code__")]
names = {name for method in methods for name in method.__code__.co_names}
print(any(name.startswith("check_") for name in names))
"""
USERS = ("features.store.definitions", "release.parity")
OTHERS = ("features.store.point_in_time", "serving.ranking.loaded_model")


@pytest.mark.parametrize("module", [*USERS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_feast_is_not_instrumented(module: str) -> None:
    """Its methods have no checks of their arguments; imported first, they have."""
    assert instrumented(module) == "False"


@pytest.mark.slow
def test_feast_imported_first_is_instrumented() -> None:
    """So the test above can fail."""
    assert instrumented("feast") == "True"


def instrumented(module: str) -> str:
    """Whether Feast's classes hold typeguard's checks in a new process that imports `module` first."""
    command = [sys.executable, "-c", CODE, module]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
