"""The code stays small and in one layout: files, functions, formatting, tests that mirror the packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.unit

PACKAGES = ("common", "features", "models", "serving", "release", "monitoring", "flows", "benchmarks")
FILES = [path for package in (*PACKAGES, "tests", "docs") for path in sorted((ROOT / package).rglob("*.py"))]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_long() -> None:
    """At most 300 lines."""
    counts = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: lines for path, lines in counts.items() if lines > MOST_LINES} == {}


def test_no_function_is_long() -> None:
    """At most 60 lines, docstring included."""
    long = {
        f"{path.relative_to(ROOT)}:{function.name}"
        for path in FILES
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert long == set()


def test_the_formatter_has_no_exceptions() -> None:
    """Every line is as ruff formats it."""
    marks = ("fmt: " + "skip", "fmt: " + "off")
    assert [str(path) for path in FILES if any(mark in path.read_text() for mark in marks)] == []


def test_no_test_imports_another_test() -> None:
    """What tests share lies in tests/support."""
    importing = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and ".test_" in f".{node.module}"
    }
    assert importing == set()


def test_every_test_file_has_a_kind() -> None:
    """`pytestmark` is unit, integration or process; `make unit` selects by it."""
    kinds = ("mark.unit", "mark.integration", "mark.process")
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if not any(k in path.read_text() for k in kinds)]
    assert [str(path.relative_to(ROOT)) for path in files] == []


def test_tests_mirror_the_packages() -> None:
    """A folder of tests has the name of a folder of code (project: the repository as a whole)."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in folders if folder.parts[0] != "project" and not (ROOT / folder).is_dir()] == []
