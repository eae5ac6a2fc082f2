"""The page of `dvc plots`: in git, offline, and there before the first run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import ROOT
from docs.generator.plots_page import PAGE_PATH, page
from tests.support import project_clone

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git clone of the project as it is in the working tree, in which nothing has run."""
    folder = tmp_path_factory.mktemp("clone")
    project_clone.clone(folder / "origin")
    shutil.copy(ROOT / "dvc.lock", folder / "origin")
    shutil.copy(ROOT / "params.yaml", folder / "origin")
    git = ["git", "-C", str(folder / "origin"), "-c", "user.name=a", "-c", "user.email=a@localhost"]
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    subprocess.run(["git", "clone", "--quiet", folder / "origin", folder / "clone"], check=True)
    return folder / "clone"


@pytest.mark.parametrize("command", ["plots show", "plots diff HEAD", "metrics show", "metrics diff", "params diff"])
def test_dvc_shows_the_committed_results_before_the_first_run(fresh_clone: Path, command: str) -> None:
    """In a clone without data, `dvc plots` makes its page, and the tables of DVC are shown."""
    arguments = [sys.executable, "-m", "dvc", *command.split()]
    done = subprocess.run(
        arguments, cwd=fresh_clone, env=project_clone.environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, "ERROR" in done.stderr) == (0, False), done.stderr
    if command.startswith("plots"):
        made = (fresh_clone / "reports" / "page" / "index.html").read_text(encoding="utf-8")
        assert made.count("vegaEmbed('#") >= 5
        assert "cdn.jsdelivr.net" not in made


def test_the_page_is_whole() -> None:
    """The page in git is that of the code; its script cannot end before its end, and DVC finds its placeholder."""
    made = page()
    assert (ROOT / PAGE_PATH).read_text(encoding="utf-8") == made
    assert made.lower().count("</script") == 1
    assert made.count("{plot_divs}") == 1
