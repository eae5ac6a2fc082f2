"""Writes what is made from the code: pages and blocks of the documentation, and the page of `dvc plots`.

Run as `python -m docs.generate`. With `--check` nothing is written: exit status 1 if one is not what the code says.
"""

import sys
from pathlib import Path

import cyclopts

from common.paths import ROOT
from docs.generator.blocks import BLOCKS, replaced
from docs.generator.plots_page import PAGE_PATH, page
from docs.generator.python_api import MARK, package_pages

PYTHON = Path("docs/reference/python")
FILES = {PAGE_PATH: page}  # that are made as a whole, and do not depend on the root


def generate(*, root: Path = ROOT, check: bool = False) -> int:
    """Write every generated page and block of the project in the folder `root`; with `check` only compare them."""
    wanted = expected(root)
    outdated = sorted(path for path, text in wanted.items() if current(root / path) != text)
    obsolete = sorted(package_pages_of(root) - set(wanted))
    if check:
        return report(outdated, obsolete)
    for path in outdated:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(wanted[path], encoding="utf-8")
    for path in obsolete:
        (root / path).unlink()
    print(f"{len(outdated)} of {len(wanted)} files written, {len(obsolete)} removed")
    return 0


def report(outdated: list[Path], obsolete: list[Path]) -> int:
    """Print which files are not what the code says; the exit status."""
    reasons = dict.fromkeys(outdated, "is not what the code says") | dict.fromkeys(obsolete, "is of no package")
    for path, reason in reasons.items():
        print(f"{path} {reason}", file=sys.stderr)
    if reasons:
        print("write them anew with `python -m docs.generate`, then commit them", file=sys.stderr)
    return int(bool(reasons))


def expected(root: Path) -> dict[Path, str]:
    """What each generated file should hold, by its path below `root`; of a file with blocks, the whole file."""
    pages = {PYTHON / name: text for name, text in package_pages(root).items()}
    for name, blocks in BLOCKS.items():
        text = current(root / name)
        for block, make in blocks.items():
            text = replaced(text, block, make(root), name)
        pages[Path(name)] = text
    return pages | {path: make() for path, make in FILES.items()}


def package_pages_of(root: Path) -> set[Path]:
    """The pages of packages that were written before."""
    return {
        path.relative_to(root)
        for path in (root / PYTHON).glob("*.md")
        if path.read_text(encoding="utf-8").startswith(MARK)
    }


def current(path: Path) -> str:
    """The text of a file, or nothing where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    cyclopts.run(generate, result_action="sys_exit")
