"""The pages of the Python API."""

from pathlib import Path

import pytest

from common.paths import ROOT
from docs.generator.python_api import MARK, PACKAGES, overview, package_pages

pytestmark = pytest.mark.unit


def test_every_module_is_on_one_page() -> None:
    """Each module of the packages is named once, on the page of its package."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stat().st_size)
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    pages = package_pages(ROOT).values()
    named = [line.removeprefix("::: ") for page in pages for line in page.splitlines() if line.startswith("::: ")]
    assert sorted(named) == sorted(names)


def test_a_package_without_code_has_no_page(tmp_path: Path) -> None:
    """An empty `__init__.py` alone is no module."""
    for name in PACKAGES:
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "models" / "inner" / "one.py").write_text('"""One."""\n')
    assert package_pages(tmp_path) == {"models.inner.md": f"{MARK}\n\n# `models.inner`\n\n::: models.inner.one\n"}
    assert overview(tmp_path).splitlines()[2:] == ["| [`models.inner`](models.inner.md) | `one` |"]
