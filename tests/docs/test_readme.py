"""The README stays short, and its layout is that of the project."""

import re
import subprocess

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.unit
README = (ROOT / "README.md").read_text()
LINES = 180


def tracked() -> list[str]:
    """The files in git, and those about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_readme_is_read_in_a_few_minutes() -> None:
    """What is longer has its page in docs/."""
    assert len(README.splitlines()) <= LINES


def test_the_layout_names_every_folder_with_code_and_no_other() -> None:
    """Each row of the layout names folders that exist; each folder with Python in it is in a row."""
    rows = re.search(r"<!-- tree -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert rows, "README.md has no block tree"
    named = {name for row in rows[1].splitlines() for name in re.findall(r"`(\w+/)`", row.split("|")[1])}
    folders = {f"{path.split('/')[0]}/" for path in tracked() if path.endswith(".py") and "/" in path}
    assert named == folders
