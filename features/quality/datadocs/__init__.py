"""Data Docs of a quality gate: a project of Great Expectations on disk, and its pages, readable without a network.

`docs/gx` is what `great_expectations.get_context(mode="file", project_root_dir=docs)` opens: suites, validation
definitions, a checkpoint and the validation results. The pages around it are the project's site, in our theme.
Neither depends on the time, unless they name their run: the same outcomes give the same bytes.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from great_expectations.data_context import AbstractDataContext

from common.files import replacing_folder
from common.run_identity import RunIdentity
from features.quality.datadocs import project
from features.quality.results import Outcome


@dataclass(frozen=True, kw_only=True)
class QualityGate:
    """A gate's name in Great Expectations, the title of its pages, their headings if open and closed, the remedy."""

    name: str
    title: str
    remedy: str
    headings: tuple[str, str] = ("The quality gate is open", "The quality gate is closed")


def build(
    gate: QualityGate,
    tables: dict[str, dict[str, Any]],
    outcomes: dict[str, list[Outcome]],
    docs: Path,
    *,
    data: str,
    run: RunIdentity | None = None,
) -> None:
    """Write the project of Great Expectations of a gate, and its site: index.html, a page per suite and per result.

    The folder `docs` is replaced as a whole: Great Expectations writes its files one by one, in place.

    Args:
        gate: what is checked, in the words of its pages.
        tables: the report of each table.
        outcomes: the outcomes of each table's rules that were evaluated.
        docs: folder of the pages and of the project.
        data: name of the data set.
        run: the run that every page names; None for the pages of a DVC stage.
    """
    about = {"gate": asdict(gate), "data": data, "run": None if run is None else asdict(run)}
    with replacing_folder(docs) as partial:
        context = project.create(partial, gate.name)
        for position, (table, report) in enumerate(tables.items()):
            shown = about | {"position": position, "table": _shown(table, report)}
            project.add(context, gate.name, table, outcomes[table], shown)
        project.add_checkpoint(context, gate.name)
        context.build_data_docs()
        _check(context, partial)


def _shown(table: str, report: dict[str, Any]) -> dict[str, Any]:
    """The report of a table as its pages show it; examples as pairs: Great Expectations sorts the keys of its files."""
    failed = [fault | {"examples": [list(row.items()) for row in fault["examples"]]} for fault in report["failed"]]
    return report | {"name": table, "failed": failed}


def _check(context: AbstractDataContext, docs: Path) -> None:
    """Raise RuntimeError where a page is missing: Great Expectations only logs that it could not be rendered."""
    suites = [docs / "expectations" / (suite.replace(".", "/") + ".html") for suite in project.suite_names(context)]
    results = [docs / page for page in project.pages(context).values()]
    absent = [
        page for page in (docs / "index.html", *suites, *results) if not page.is_file() or not page.stat().st_size
    ]
    if absent:
        raise RuntimeError(f"Great Expectations could not render {[str(page) for page in absent]}; its log says why")
