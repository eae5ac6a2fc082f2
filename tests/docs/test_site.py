"""The site: its configuration, and what it loads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from common.paths import ROOT

pytestmark = pytest.mark.unit
TEXT = re.sub(r"!!python/name:\S+", "null", (ROOT / "mkdocs.yml").read_text())
CONFIG = YAML(typ="safe").load(TEXT)


def files(entry: object) -> list[str]:
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [name for part in parts for name in files(part)]  # type: ignore[attr-defined]


def test_every_page_is_in_the_navigation_once() -> None:
    """No page is forgotten, none is listed twice, none is missing on the disk."""
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(files(CONFIG["nav"])) == sorted(pages)


def test_every_decision_has_a_row_in_their_index() -> None:
    """In the order of their numbers, once each."""
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(r"^\| \[\d{4}\]\(([\w.-]+)\) \|", (folder / "index.md").read_text(), re.MULTILINE)
    assert rows == sorted(path.name for path in folder.glob("[0-9]*.md"))


def test_the_site_loads_nothing_from_another_server() -> None:
    """No font of Google; scripts and styles are files of the project; Mermaid is one of them."""
    assert CONFIG["theme"]["font"] is False
    loaded = CONFIG["extra_javascript"] + CONFIG["extra_css"]
    assert all((ROOT / "docs" / name).is_file() for name in loaded)
    assert any("mermaid" in name for name in loaded)


def test_a_warning_ends_the_build() -> None:
    """Broken links, anchors and pages outside of the navigation are warnings, which `--strict` turns into errors."""
    assert set(CONFIG["validation"]["links"].values()) == {"warn"}
    assert CONFIG["validation"]["nav"]["omitted_files"] == "warn"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Links, cross references and docstrings are right: `make docs` is strict."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "index.html").is_file()
