"""Data Docs: the pages of Great Expectations, in templates of the project that need no network.

The templates of Great Expectations load scripts, fonts and a logo from other hosts, and a script makes the table of
their index. Great Expectations still decides the content of a page; the templates in this folder its layout.
The pages do not depend on the time, unless they name their run: the same outcomes give the same bytes.
"""

import dataclasses
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from great_expectations.core import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader

from common.run_identity import RunIdentity
from features.quality.results import Outcome, for_data_docs, quiet_context

HEADINGS = ("The quality gate is open", "The quality gate is closed")
SITE_BUILDER = "great_expectations.render.renderer.site_builder"  # the logger of the module that writes the pages
RUN_TIME = "2000-01-01T00:00:00Z"  # part of the path of every page; constant, so that a page keeps its name


class OfflineView(DefaultJinjaPageView):
    """Renders a page with the templates of this folder; `site` holds what all pages show."""

    def __init__(self, site: dict[str, Any], **directories: Any) -> None:
        super().__init__(**directories)
        self.env.loader = ChoiceLoader([FileSystemLoader(Path(__file__).parent), *filter(None, [self.env.loader])])
        self.env.globals["site"] = site


def build(
    name: str,
    tables: dict[str, dict[str, Any]],
    outcomes: dict[str, list[Outcome]],
    docs: Path,
    *,
    title: str = "Data validation",
    remedy: str = "No later stage runs until the log or its reader is fixed.",
    headings: tuple[str, str] = HEADINGS,
    run: RunIdentity | None = None,
) -> None:
    """Write index.html, a page per suite and a page per result under `docs`.

    Args:
        name: name of the data set.
        tables: the report of each table.
        outcomes: the outcomes of each table's rules that were evaluated.
        docs: folder of the pages.
        title: heading of every page.
        remedy: what to do where the gate is closed.
        headings: heading of the index where every table passed, and where one did not.
        run: the run that every page names; None for the pages of a DVC stage.
    """
    context, pages = quiet_context(), {}
    for table, of_table in outcomes.items():
        expectations = [for_data_docs(outcome.rule.expectation) for outcome in of_table]
        context.suites.add(ExpectationSuite(name=table, expectations=expectations))
        key = ValidationResultIdentifier(ExpectationSuiteIdentifier(table), RunIdentifier(name, RUN_TIME), table)
        result = _result(table, of_table, passed=tables[table]["passed"])
        context.validation_results_store.set(key, result)
        path = key.to_tuple()  # type: ignore[no-untyped-call]
        pages[table] = "/".join(["validations", *path]) + ".html"
    site: dict[str, Any] = {
        "name": name,
        "title": title,
        "remedy": remedy,
        "headings": headings,
        "tables": tables,
        "pages": pages,
        "run": None if run is None else dataclasses.asdict(run),
    }
    context.add_data_docs_site("local", _settings(docs.absolute(), site))
    logging.getLogger(SITE_BUILDER).addFilter(_raise_error)
    context.build_data_docs()
    _check(docs, ["index.html", *pages.values(), *(f"expectations/{table}.html" for table in outcomes)])
    shutil.rmtree(docs / "static")  # images and fonts that the templates do not use


def _raise_error(_: logging.LogRecord) -> bool:
    """Raise the error that the site builder is about to log, with its traceback, and to pass over."""
    if (error := sys.exc_info()[1]) is not None:
        raise error
    return True


def _result(table: str, outcomes: list[Outcome], *, passed: bool) -> ExpectationSuiteValidationResult:
    good = sum(outcome.success for outcome in outcomes)
    statistics = {
        "evaluated_expectations": len(outcomes),
        "successful_expectations": good,
        "unsuccessful_expectations": len(outcomes) - good,
        "success_percent": 100 * good / max(len(outcomes), 1),
    }
    meta = {"batch_spec": {"data_asset_name": table}}
    results = [outcome.as_validation_result() for outcome in outcomes]
    return ExpectationSuiteValidationResult(
        success=passed, results=results, suite_name=table, statistics=statistics, meta=meta
    )


def _check(docs: Path, pages: list[str]) -> None:
    """Raise RuntimeError where a page is missing: Great Expectations only logs that it could not be rendered."""
    absent = [page for page in pages if not (docs / page).is_file() or not (docs / page).stat().st_size]
    if absent:
        raise RuntimeError(f"Great Expectations could not render {absent} in {docs}; its log says why")


def _settings(docs: Path, site: dict[str, Any]) -> Any:
    """A site of Great Expectations under `docs` whose pages are all rendered by OfflineView."""
    view = {"module_name": __name__, "class_name": OfflineView.__name__, "site": site}
    return {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "view": view},
        "site_section_builders": {
            "expectations": {"view": view},
            "validations": {"view": view},
            "profiling": "None",
        },
    }
