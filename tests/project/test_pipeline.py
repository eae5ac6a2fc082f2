"""The graph: each stage is one module, and DVC knows every file that can change what it makes."""

import os
from pathlib import Path

import grimp
import pytest
import yaml
from dvc.repo import Repo

from common.params import load
from common.paths import ROOT

PACKAGES = ("features", "models", "serving", "monitoring")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """Who imports whom, among the project's own modules."""
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def declared(name: str) -> dict:
    """The declaration of a stage, whether it is repeated (`foreach`) or not."""
    return STAGES[name].get("do", STAGES[name])


def module_of(name: str) -> str:
    """The module that the stage's command runs."""
    return declared(name)["cmd"].split("python -m ")[1].split()[0]


def files(path: str) -> set[str]:
    """The Python files under a dependency of a stage."""
    found = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
    return {str(file.relative_to(ROOT)) for file in found}


def closure(imports: grimp.ImportGraph, module: str) -> set[str]:
    """The files of a module and of all that it imports, directly or not; empty packages have nothing to say."""
    modules = {module, "errors", *imports.find_upstream_modules(module)}  # params and stage import errors
    paths = (ROOT / name.replace(".", "/") for name in modules)
    found = {path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths}
    found = {path for path in found if path.exists()}  # the rest are packages of others
    return {str(path.relative_to(ROOT)) for path in found if path.stat().st_size}


@pytest.mark.parametrize("name", STAGES)
def test_deps_of_a_stage_are_the_closure_of_its_imports(imports: grimp.ImportGraph, name: str) -> None:
    """A stage runs again when code that it runs has changed, and only then."""
    code = [d for d in declared(name)["deps"] if not d.startswith(("data/", "artifacts/", "reports/"))]
    listed = {file for path in code for file in files(path)}
    listed = {file for file in listed if (ROOT / file).stat().st_size}
    assert listed == closure(imports, module_of(name))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_with_a_section_and_a_test(name: str) -> None:
    """The stage `x` runs the module `x`, reads no section but `x`, and has a test file and one sentence of `desc`.

    The stages `inspect_y` share the section `inspect`; the one on the training set has to know how it was split.
    """
    module = module_of(name)
    assert module.split(".")[1] == name
    section = {"ingest": "dataset"}.get(name, name.split("_")[0])
    assert set(declared(name).get("params", [])) <= {section, "serve", *["join.split"] * (name == "inspect_training")}
    assert (ROOT / "tests" / f"test_{name}.py").exists()
    assert declared(name)["desc"]


def test_the_validation_report_is_an_edge() -> None:
    """Whatever follows validation depends on its report: a closed gate stops the line."""
    assert "reports/validation.json" in declared("aggregate")["deps"]


@pytest.mark.parametrize(("border", "name"), [("training", "train"), ("tensors", "train"), ("online", "package")])
def test_the_report_of_a_border_is_an_edge(border: str, name: str) -> None:
    """No model is trained on rows or tensors that did not pass, and no online store is packed that did not."""
    report = f"reports/inspection/{border}.json"
    assert {report: {"cache": False}} in declared(f"inspect_{border}")["outs"]
    assert report in declared(name)["deps"]


def test_the_way_of_the_data_is_one_graph_in_order() -> None:
    """DVC's own reading of the graph: every stage is reached from ingest, and nothing is made twice."""
    graph = Repo(os.fspath(ROOT)).index.graph
    names = {stage.addressing.split(":")[-1] for stage in graph.nodes}
    assert {"ingest", "validate", "aggregate", "join", "encode", "train@hinet", "evaluate", "package"} <= names
    first = [stage.addressing for stage in graph.nodes if not list(graph.successors(stage))]
    assert first == ["ingest"]


def test_new_data_make_the_first_stage_stale() -> None:
    """The folder of the log is a dependency, whichever it is: dvc.yaml names no folder of its own."""
    assert "${dataset.path}" in declared("ingest")["deps"]
    (ingest,) = (stage for stage in Repo(os.fspath(ROOT)).index.stages if stage.addressing == "ingest")
    assert Path(load(ROOT / "params.yaml").dataset.path) in [Path(dep.def_path) for dep in ingest.deps]
