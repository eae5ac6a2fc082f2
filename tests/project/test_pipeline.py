"""The graph: each stage is one module, and DVC knows every file that can change what it makes."""

import os
from pathlib import Path
from typing import Any

import grimp
import pytest
from dvc.repo import Repo

from common import paths
from common.params import load
from common.paths import ROOT
from common.yaml_file import read_yaml

pytestmark = pytest.mark.unit

PACKAGES = ("common", "features", "models", "serving", "release", "monitoring")
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
MOST_CODE = {"train": 8, "package": 12}  # dependencies on code


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """Who imports whom, among the project's own modules, also within functions."""
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def declared(name: str) -> dict[str, Any]:
    """The declaration of a stage, whether it is repeated (`foreach`) or not."""
    stage: dict[str, Any] = STAGES[name].get("do", STAGES[name])
    return stage


def module_of(name: str) -> str:
    """The module that the stage's command runs."""
    return str(declared(name)["cmd"].split("python -m ")[1].split()[0])


def code_of(name: str) -> list[str]:
    """The dependencies of a stage on code of the project."""
    return [path for path in declared(name)["deps"] if path.split("/")[0] in PACKAGES]


def files(path: str) -> set[str]:
    """The Python files under a dependency of a stage."""
    existing = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
    return {str(file.relative_to(ROOT)) for file in existing}


def closure(imports: grimp.ImportGraph, module: str) -> set[str]:
    """The files of a module and of all that it imports, directly or not, except empty `__init__.py`."""
    modules = {module, *imports.find_upstream_modules(module)}
    locations = (ROOT / name.replace(".", "/") for name in modules)
    existing = {path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in locations}
    existing = {path for path in existing if path.exists()}  # the rest are packages of others
    return {str(path.relative_to(ROOT)) for path in existing if path.stat().st_size}


@pytest.mark.parametrize("name", STAGES)
def test_the_deps_of_a_stage_hold_all_code_that_it_imports(imports: grimp.ImportGraph, name: str) -> None:
    """A stage runs again when code that it runs has changed; each folder that it names has code that it runs."""
    needed = closure(imports, module_of(name))
    listed = {path: files(path) for path in code_of(name)}
    assert not needed - set().union(*listed.values())
    assert [path for path, held in listed.items() if not held & needed] == []


@pytest.mark.parametrize("name", STAGES)
def test_networks_that_are_imported_by_name_are_deps(imports: grimp.ImportGraph, name: str) -> None:
    """A stage that reads or makes a model depends on the networks, which no import statement names."""
    if "models/model_folder.py" in closure(imports, module_of(name)):
        assert "models/networks" in code_of(name)


@pytest.mark.parametrize(("name", "most"), MOST_CODE.items())
def test_code_is_named_by_folders(name: str, most: int) -> None:
    """The list of a stage is short enough to be read."""
    assert len(code_of(name)) <= most


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_with_a_section_and_a_test(name: str) -> None:
    """The stage `x` runs the module `x`, reads no section but `x`, and has a test file and one sentence of `desc`.

    The stages `inspect_y` share the section `inspect`; the one on the training set has to know how it was split. The
    section `engine` is shared by those that may run on Spark.
    """
    package, module = module_of(name).split(".")
    assert module == name
    section = {"ingest": "dataset"}.get(name, name.split("_")[0])
    shared = {"engine", "serve", *["join.split"] * (name == "inspect_training")}
    assert set(declared(name).get("params", [])) <= {section, *shared}
    assert (ROOT / "tests" / package / f"test_{name}.py").exists()
    assert declared(name)["desc"]


def test_the_paths_of_the_graph_are_those_of_the_code() -> None:
    """Every path of data/, artifacts/ and reports/ that dvc.yaml names lies at or under one of common/paths.py."""
    known = [value for value in vars(paths).values() if isinstance(value, Path) and len(value.parts) > 1]
    named = {
        Path(path.replace("${key}", "hinet_plus"))
        for stage in STAGES
        for key in ("deps", "outs", "metrics")
        for entry in declared(stage).get(key, [])
        for path in ([entry] if isinstance(entry, str) else entry)
        if path.startswith(("data/", "artifacts/", "reports/"))
    }
    strange = [path for path in named if not any(path.is_relative_to(one) or one.is_relative_to(path) for one in known)]
    assert strange == []


def test_the_validation_report_is_an_edge() -> None:
    """Whatever follows validation depends on its report: a closed quality gate stops the pipeline."""
    assert "reports/validation.json" in declared("aggregate")["deps"]


@pytest.mark.parametrize(("inspected", "name"), [("training", "train"), ("tensors", "train"), ("online", "package")])
def test_the_report_of_an_inspection_is_an_edge(inspected: str, name: str) -> None:
    """No model is trained on rows or tensors that did not pass, and no online store is packed that did not."""
    report = f"reports/inspection/{inspected}.json"
    assert {report: {"cache": False}} in declared(f"inspect_{inspected}")["outs"]
    assert report in declared(name)["deps"]


def test_the_way_of_the_data_is_one_graph_in_order() -> None:
    """DVC's own reading of the graph: every stage is reached from ingest, and nothing is made twice."""
    graph = Repo(os.fspath(ROOT)).index.graph
    names = {stage.addressing.split(":")[-1] for stage in graph.nodes}
    assert {"ingest", "validate", "aggregate", "join", "encode", "train@hinet_plus", "evaluate", "package"} <= names
    first = [stage.addressing for stage in graph.nodes if not list(graph.successors(stage))]
    assert first == ["ingest"]


def test_new_data_put_the_first_stage_out_of_date() -> None:
    """The folder of the log is a dependency, whichever it is: dvc.yaml names none itself."""
    assert "${dataset.path}" in declared("ingest")["deps"]
    (ingest,) = (stage for stage in Repo(os.fspath(ROOT)).index.stages if stage.addressing == "ingest")
    assert Path(load(ROOT / "params.yaml").dataset.path) in [Path(dep.def_path) for dep in ingest.deps]


def test_the_model_in_which_a_training_begins_is_a_dependency() -> None:
    """The folder of train.warm_start, and no other, puts the packaged model out of date; the baseline has none."""
    deps = {
        stage.addressing: [Path(dep.def_path) for dep in stage.deps]
        for stage in Repo(os.fspath(ROOT)).index.stages
        if stage.addressing.startswith("train@")
    }
    assert Path(load(ROOT / "params.yaml").train.warm_start) in deps["train@hinet_plus"]
    assert "${train.warm_start}" in STAGES["train"]["foreach"].values()
    assert paths.WARM_START in deps["train@shared_bottom"]
    assert [path.name for path in (ROOT / paths.WARM_START).iterdir()] == ["from_nothing"]
