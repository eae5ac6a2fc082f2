"""The theme of Data Docs: the site of a project of Great Expectations, in templates that need no network.

The templates of Great Expectations load scripts, fonts and a logo from other hosts, and a script makes the table of
their index. Great Expectations still decides the content of a page; the templates in this folder its layout. A project
names the theme by its class: `data_docs_sites` in great_expectations.yml.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from great_expectations.data_context import AbstractDataContext
from great_expectations.render.renderer.site_builder import SiteBuilder
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import BytecodeCache, ChoiceLoader, FileSystemLoader
from jinja2.bccache import Bucket

from features.quality.datadocs import project


class CompiledTemplates(BytecodeCache):
    """Compiled templates, in memory: each section of a site has a view of its own, which would compile them again."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket of a template, if it was compiled before."""
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the compiled template of a bucket."""
        self._compiled[bucket.key] = bucket.bytecode_to_string()


class OfflineView(DefaultJinjaPageView):
    """Renders a page with the templates of this folder; `site` holds what all pages show."""

    _compiled = CompiledTemplates()

    def __init__(self, site: dict[str, Any], **directories: Any) -> None:
        super().__init__(**directories)
        self.env.loader = ChoiceLoader([FileSystemLoader(Path(__file__).parent), *filter(None, [self.env.loader])])
        self.env.bytecode_cache = self._compiled
        self.env.globals["site"] = site


class QualityGateSite(SiteBuilder):
    """A site of Great Expectations whose pages are all rendered by OfflineView.

    Args:
        data_context: the project.
        store_backend: where the pages go.
        gates: the names of the gates, in the order of the overview.
        runtime_environment: the root of the project.
        settings: what else Great Expectations gives to a site.
    """

    def __init__(
        self,
        data_context: AbstractDataContext,
        store_backend: dict[str, Any],
        gates: Sequence[str],
        runtime_environment: dict[str, Any] | None = None,  # named, else Great Expectations passes none
        **settings: Any,
    ) -> None:
        site = overview(data_context, gates)
        view = {"module_name": __name__, "class_name": OfflineView.__name__, "site": site}
        super().__init__(
            data_context,
            store_backend,
            show_how_to_buttons=False,
            site_index_builder={"class_name": "DefaultSiteIndexBuilder", "view": view},
            site_section_builders={
                "expectations": {"view": view},
                "validations": {"view": view},
                "profiling": "None",
            },
            runtime_environment=runtime_environment,
            **settings,
        )
        self.target_store.copy_static_assets = _nothing  # type: ignore[method-assign, assignment]  # we use none
        logging.getLogger(SiteBuilder.__module__).addFilter(_raise_error)


def _nothing(_: str | None = None) -> None:
    """In place of the images and fonts of Great Expectations."""


def _raise_error(_: logging.LogRecord) -> bool:
    """Raise the error that Great Expectations is about to log, with its traceback, and to pass over."""
    if (error := sys.exc_info()[1]) is not None:
        raise error
    return True


def overview(context: AbstractDataContext, gates: Sequence[str]) -> dict[str, Any]:
    """What all pages show: the results of each gate by table, and those of other suites.

    Results that a user's own run of a checkpoint added are among the others.
    """
    of_gates: dict[str, dict[str, Any]] = {}
    others = []
    for key, page in project.pages(context).items():
        result: Any = context.validation_results_store.get(key)
        about = result.meta.get("batch_spec", {}).get("quality_gate")
        suite = key.expectation_suite_identifier.name
        if about is None:
            others.append({"suite": suite, "passed": result.success, "page": page, "time": key.run_id.run_time})
            continue
        gate = of_gates.setdefault(about["gate"]["name"], {**about, **about["gate"], "tables": []})
        gate["tables"].append(
            {
                **about["table"],
                "position": about["position"],
                "suite": suite,
                "page": page,
                "expectations": result.statistics["evaluated_expectations"],
            }
        )
    for gate in of_gates.values():
        gate["tables"].sort(key=lambda table: table["position"])
    return {"gates": [of_gates[gate] for gate in gates if gate in of_gates], "others": others}
