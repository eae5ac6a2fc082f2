"""The pages of the Python API: one per package, which names its modules to mkdocstrings."""

import ast
from pathlib import Path

from docs.generator.markdown import table

PACKAGES = ("common", "features", "models", "serving", "release", "monitoring", "flows")
MARK = "<!-- Written by `python -m docs.generate`. Do not edit. -->"


def overview(root: Path) -> str:
    """The packages with a link to the page of each, and their modules."""
    rows = ((f"[`{name}`]({name}.md)", _summary(root, name)) for name in package_names(root))
    return table(["package", "modules"], rows)


def package_pages(root: Path) -> dict[str, str]:
    """The page of each package that holds a module, by its file name."""
    return {f"{name}.md": _package_page(name, modules(root, name)) for name in package_names(root)}


def package_names(root: Path) -> list[str]:
    """The dotted names of the packages and their folders that hold a module with code, in order."""
    folders = (folder for top in PACKAGES for folder in [root / top, *sorted((root / top).rglob("*/"))])
    names = (".".join(folder.relative_to(root).parts) for folder in folders)
    return [name for name in names if modules(root, name)]


def modules(root: Path, package: str) -> list[str]:
    """The public modules that lie directly in a package; the package itself is one where it holds code."""
    folder = root / package.replace(".", "/")
    files = sorted(path for path in folder.glob("*.py") if path.stat().st_size)
    return [package if path.stem == "__init__" else f"{package}.{path.stem}" for path in files]


def _summary(root: Path, package: str) -> str:
    names = ", ".join(f"`{name.rsplit('.', 1)[-1]}`" for name in modules(root, package) if name != package)
    return names or _sentence(root / package.replace(".", "/") / "__init__.py")


def _sentence(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]


def _package_page(package: str, found: list[str]) -> str:
    return "\n\n".join([MARK, f"# `{package}`", *(f"::: {name}" for name in found)]) + "\n"
