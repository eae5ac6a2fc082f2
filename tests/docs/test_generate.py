"""`python -m docs.generate`: it writes what the code says, and `--check` compares."""

from pathlib import Path

import pytest

from common.paths import ROOT
from docs import generate as module
from docs.generate import PYTHON, expected, generate

pytestmark = pytest.mark.unit
PAGE = Path("page.md")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one block and one package page."""
    monkeypatch.setattr(module, "BLOCKS", {"page.md": {"one": lambda _: "new"}})
    monkeypatch.setattr(module, "package_pages", lambda _: {"models.md": f"{module.MARK}models\n"})
    monkeypatch.setattr(module, "FILES", {})
    (tmp_path / PAGE).write_text("By hand.\n<!-- one -->\nold\n<!-- end -->\n")
    return tmp_path


def test_check_fails_until_the_files_are_written(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 names each file and the command to run; after that command the status is 0 and nothing is left to do."""
    assert generate(root=tree, check=True) == 1
    errors = capsys.readouterr().err
    assert "page.md is not what the code says" in errors
    assert "docs/reference/python/models.md is not what the code says" in errors
    assert "python -m docs.generate" in errors
    assert generate(root=tree) == 0
    assert (tree / PAGE).read_text() == "By hand.\n<!-- one -->\nnew\n<!-- end -->\n"
    assert generate(root=tree, check=True) == 0
    assert capsys.readouterr().err == ""


def test_check_writes_nothing(tree: Path) -> None:
    """The files are as they were."""
    before = (tree / PAGE).read_text()
    generate(root=tree, check=True)
    assert (tree / PAGE).read_text() == before
    assert not (tree / PYTHON).exists()


def test_the_page_of_a_package_that_is_gone_is_removed(tree: Path) -> None:
    """A page that was written before and is not expected any more is found by the check, and removed; others stay."""
    generate(root=tree)
    (tree / PYTHON / "gone.md").write_text(f"{module.MARK}gone\n")
    (tree / PYTHON / "index.md").write_text("By hand.\n")
    assert generate(root=tree, check=True) == 1
    generate(root=tree)
    assert sorted(path.name for path in (tree / PYTHON).iterdir()) == ["index.md", "models.md"]


@pytest.mark.integration
def test_the_pages_of_the_project_are_what_the_code_says() -> None:
    """Every generated page and block in git is up to date: else run `python -m docs.generate`."""
    outdated = [str(path) for path, text in expected(ROOT).items() if module.current(ROOT / path) != text]
    assert outdated == []


@pytest.mark.integration
def test_no_page_has_a_path_of_this_machine() -> None:
    """The default of an option is a path within the project: a page is the same in every checkout."""
    assert [str(path) for path, text in expected(ROOT).items() if str(ROOT) in text] == []
