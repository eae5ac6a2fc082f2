"""The pages of the Python API: one per package, each naming its modules to mkdocstrings, which reads them statically."""

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.generator.markdown import page, table

PACKAGES = ("common", "features", "models", "serving", "release", "monitoring", "flows")
INTRODUCTION = """
The modules of the project, package by package. They are read from the source text, without being imported. Names that
begin with an underscore are not shown. What a page describes may change between minor versions: the stable interfaces are
the [commands](../commands.md), the [HTTP API](../http-api.md) and the [file formats](../file-formats.md)."""


def python_pages(root: Path) -> dict[str, str]:
    """The pages by file name: index.md, and one for each package that holds a module."""
    packages = {name: modules(root, name) for name in package_names(root)}
    rows = ((f"[`{name}`]({name}.md)", _summary(root, name, found)) for name, found in packages.items())
    index = page("Python API", "the packages", INTRODUCTION, table(["package", "modules"], rows))
    return {"index.md": index} | {f"{name}.md": _package_page(name, found) for name, found in packages.items()}


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


def _summary(root: Path, package: str, found: list[str]) -> str:
    return ", ".join(f"`{name.rsplit('.', 1)[-1]}`" for name in found if name != package) or _sentence(root, package)


def _sentence(root: Path, package: str) -> str:
    tree = ast.parse((root / package.replace(".", "/") / "__init__.py").read_text())
    return (ast.get_docstring(tree) or "").split("\n")[0]


def _package_page(package: str, found: list[str]) -> str:
    return page(f"`{package}`", "the names of the modules", *(f"::: {name}" for name in found))


def nav(root: Path) -> Iterator[tuple[str, str]]:
    """Title and file of each page, in the order in which the site lists them."""
    yield "Overview", "index.md"
    yield from ((name, f"{name}.md") for name in package_names(root))
