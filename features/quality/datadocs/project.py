"""A project of Great Expectations on disk: its configuration, and what a quality gate writes into its stores.

One project holds one gate, in the folder of its report, an output of its DVC stage. The project in reports/gx holds all
of them: its stores read the folders of the gates (features/quality/datadocs/gate_folders.py).
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations as gx
import yaml
from great_expectations.core import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context import AbstractDataContext
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from features.quality.results import Outcome, for_data_docs

GATES = {  # the folder of each gate's project, relative to reports
    "validation": "validation/gx",
    "training": "inspection/training/gx",
    "tensors": "inspection/tensors/gx",
    "online": "inspection/online/gx",
    "drift": "drift/expectations/gx",
}
STORES = {  # the class of each store, and its folder
    "expectations_store": ("ExpectationsStore", "expectations"),
    "validation_definition_store": ("ValidationDefinitionStore", "validation_definitions"),
    "checkpoint_store": ("CheckpointStore", "checkpoints"),
    "validation_results_store": ("ValidationResultsStore", "validation_results"),
}
DATA_SOURCE, BATCH = "quality_gates", "rows"
RUN_TIME = "2000-01-01T00:00:00Z"  # part of the path of every result; constant, so that a page keeps its name
_NAMESPACE = uuid.UUID("3b0f0c52-6a0f-5d0e-9a55-6f1f0d7a4c11")


def identifier(*parts: str) -> str:
    """An id that depends on names only, where Great Expectations would draw one: the same files every time."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def configuration(gates: Mapping[str, str], *, pages: str) -> dict[str, Any]:
    """great_expectations.yml of a project that holds one gate, or several with the folder of each.

    Args:
        gates: the names of the gates, in the order of the pages, each with its folder; "" is the project's own.
        pages: folder of the pages, relative to the project.
    """
    return {
        "config_version": 4.0,
        "data_context_id": identifier(*gates),
        "stores": {name: _store(kind, folder, gates) for name, (kind, folder) in STORES.items()},
        **{f"{name}_name": name for name in STORES if name != "validation_definition_store"},
        "data_docs_sites": {
            "local_site": {
                "module_name": "features.quality.datadocs.site",
                "class_name": "QualityGateSite",
                "gates": list(gates),
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": pages},
            }
        },
        "progress_bars": {"globally": False},
        "analytics_enabled": False,
        "fluent_datasources": {DATA_SOURCE: _data_source(gates)},
    }


def _store(kind: str, folder: str, gates: Mapping[str, str]) -> dict[str, Any]:
    backend: dict[str, Any] = {
        "class_name": "TupleFilesystemStoreBackend",
        "base_directory": folder,
        "suppress_store_backend_id": True,
    }
    if any(gates.values()):
        backend |= {
            "module_name": "features.quality.datadocs.gate_folders",
            "class_name": "GateFolders",
            "base_directory": "..",
            "folder": folder,
            "gates": dict(gates),
        }
    return {"class_name": kind, "store_backend": backend}


def _data_source(gates: Mapping[str, str]) -> dict[str, Any]:
    """A data source of frames: a gate evaluates its suites on frames that it derives from its input."""
    assets = {
        gate: {
            "type": "dataframe",
            "id": identifier("asset", gate),
            "batch_metadata": {},
            "batch_definitions": {BATCH: {"id": identifier("batch", gate)}},
        }
        for gate in gates
    }
    return {"type": "pandas", "id": identifier("data source"), "assets": assets}


def to_yaml(document: Mapping[str, Any]) -> str:
    """The document as YAML, its keys in their order."""
    return yaml.safe_dump(dict(document), sort_keys=False, width=120)


def create(docs: Path, gate: str) -> AbstractDataContext:
    """A new, empty project of one gate in `docs`/gx; its site is `docs`."""
    folder = docs / "gx"
    folder.mkdir(parents=True)
    (folder / "great_expectations.yml").write_text(to_yaml(configuration({gate: ""}, pages="..")))
    return gx.get_context(mode="file", project_root_dir=docs)


def add(context: AbstractDataContext, gate: str, table: str, outcomes: list[Outcome], about: Mapping[str, Any]) -> None:
    """Write the suite of a table, its validation definition and its result; `about` is what the pages say of it."""
    name = f"{gate}.{table}"
    suite = ExpectationSuite(
        name=name,
        id=identifier("suite", name),
        expectations=[for_data_docs(outcome.rule.expectation) for outcome in outcomes],
    )
    for expectation, outcome in zip(suite.expectations, outcomes, strict=True):
        expectation.id = identifier("expectation", name, outcome.rule.name)
    context.expectations_store.set(ExpectationSuiteIdentifier(name), suite)  # `add` would draw ids
    definition = gx.ValidationDefinition(
        name=name,
        data=context.data_sources.get(DATA_SOURCE).get_asset(gate).get_batch_definition(BATCH),
        suite=context.suites.get(name),
        id=identifier("definition", name),
    )
    definitions = context.validation_definition_store
    definitions.set(definitions.get_key(name), definition)
    run = RunIdentifier(str(about["data"]), RUN_TIME)
    key = ValidationResultIdentifier(ExpectationSuiteIdentifier(name), run, table)
    context.validation_results_store.set(key, _result(definition, table, outcomes, about))


def add_checkpoint(context: AbstractDataContext, gate: str) -> None:
    """Write the checkpoint of a gate: all of its validation definitions."""
    definitions = sorted(context.validation_definitions.all(), key=lambda definition: definition.name)
    checkpoint = gx.Checkpoint(name=gate, validation_definitions=definitions, id=identifier("checkpoint", gate))
    context.checkpoint_store.set(context.checkpoint_store.get_key(gate), checkpoint)


def _result(
    definition: gx.ValidationDefinition, table: str, outcomes: list[Outcome], about: Mapping[str, Any]
) -> ExpectationSuiteValidationResult:
    good = sum(outcome.success for outcome in outcomes)
    statistics = {
        "evaluated_expectations": len(outcomes),
        "successful_expectations": good,
        "unsuccessful_expectations": len(outcomes) - good,
        "success_percent": 100 * good / max(len(outcomes), 1),
    }
    meta = {
        "batch_spec": {"data_asset_name": table, "quality_gate": about},  # what Great Expectations hands to a view
        "run_id": {"run_name": about["data"], "run_time": RUN_TIME},
        "validation_id": definition.id,
    }
    return ExpectationSuiteValidationResult(
        success=about["table"]["passed"],
        results=[outcome.as_validation_result() for outcome in outcomes],
        suite_name=definition.name,
        statistics=statistics,
        meta=meta,
    )


def suite_names(context: AbstractDataContext) -> list[str]:
    """The names of all suites, in order."""
    keys: list[Any] = context.expectations_store.list_keys()
    return sorted(key.name for key in keys)


def pages(context: AbstractDataContext) -> dict[ValidationResultIdentifier, str]:
    """The results in the store, the newest of a suite first, each with its page relative to the site."""
    keys: list[Any] = sorted(context.validation_results_store.list_keys(), key=lambda key: key.to_tuple(), reverse=True)
    return {key: "/".join(["validations", *key.to_tuple()]) + ".html" for key in keys}
