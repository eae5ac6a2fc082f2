"""Generated blocks of files that are otherwise written by hand: README, reference pages, the navigation of the site."""

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from docs.generator import commands, environment, http_api, metrics, parameters, pipeline, python_api
from docs.generator.markdown import code
from models.evaluation.results_table import auc_table

Make = Callable[[Path], str]
HEADING = re.compile(r"^# (.+)$", re.MULTILINE)


def results(root: Path) -> str:
    """The table of the last run, from reports/metrics.json."""
    console = Console(width=100, no_color=True, record=True, file=io.StringIO())
    console.print(auc_table(json.loads((root / "reports" / "metrics.json").read_text())))
    return code("\n".join(line.rstrip() for line in console.export_text().splitlines()))


def decisions_nav(root: Path) -> str:
    """The numbered decisions for the navigation of mkdocs.yml."""
    pages = sorted((root / "docs" / "decisions").glob("[0-9]*.md"))
    return "\n".join(f'      - "{title_of(path)}": decisions/{path.name}' for path in pages)


def python_nav(root: Path) -> str:
    """The pages of the Python API for the navigation of mkdocs.yml."""
    return "\n".join(f"          - {name}: reference/python/{name}.md" for name in python_api.package_names(root))


def title_of(page: Path) -> str:
    """The first heading of a page."""
    heading = HEADING.search(page.read_text(encoding="utf-8"))
    return (heading[1] if heading else page.stem).replace('"', "'")


BLOCKS: Mapping[str, Mapping[str, Make]] = {
    "README.md": {"table": results},
    "mkdocs.yml": {"decisions": decisions_nav, "python": python_nav},
    "docs/reference/pipeline.md": {"graph": pipeline.graph, "stages": pipeline.stages, "details": pipeline.details},
    "docs/reference/parameters.md": {"parameters": parameters.parameters},
    "docs/reference/environment.md": {"settings": lambda _: environment.settings(), "makefile": environment.exported},
    "docs/reference/commands.md": {
        "targets": commands.targets,
        "statuses": lambda _: commands.statuses(),
        "commands": commands.sections,
    },
    "docs/reference/http-api.md": {
        "paths": http_api.paths,
        "bodies": http_api.bodies,
        "statuses": http_api.statuses,
        "types": http_api.types,
    },
    "docs/reference/metrics.md": {"metrics": metrics.metrics},
    "docs/reference/python/index.md": {"packages": python_api.overview},
}


def replaced(text: str, name: str, block: str, file: str) -> str:
    """`text` with `block` between the marks of the block `name`: comments of Markdown, or of YAML.

    Raises ValueError where the text, that of `file`, has no such marks.
    """
    begin, end = ("# {}", "# end") if file.endswith((".yml", ".yaml")) else ("<!-- {} -->", "<!-- end -->")
    begin = begin.format(name)
    found = re.search(rf"^ *{begin}\n(.*?)^ *{end}$", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{file} has no block {name}: expected a line `{begin}`, and a line `{end}` after it")
    return f"{text[: found.start(1)]}{block}\n{text[found.end(1) :]}"
