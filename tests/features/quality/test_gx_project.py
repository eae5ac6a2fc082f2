"""The gates as a project of Great Expectations: what `get_context` opens after the pipeline has run."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import great_expectations as gx
import pytest
import yaml

from common.errors import ValidationError
from common.paths import ROOT
from features.inspect_online import inspect_online
from features.inspect_tensors import inspect_tensors
from features.inspect_training import inspect_training
from features.quality.datadocs import project as gx_project
from features.validate import validate
from monitoring.drift import drift
from tests.support.rich_world import digests

pytestmark = pytest.mark.integration

PROJECT = Path("reports/gx/great_expectations.yml")
TABLES = {
    "validation": ["events", "items", "users"],
    "training": ["test", "together", "train", "valid"],
    "tensors": ["test", "train", "valid"],
    "online": ["item", "item snapshot", "user", "user_in_scenario"],
    "drift": ["statistics"],
}


@pytest.fixture(scope="module")
def reports(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the gates of the tiny project write, and the project file of the repository."""
    folder = tmp_path_factory.mktemp("after") / "reports"
    (folder / "gx").mkdir(parents=True)
    shutil.copy(ROOT / PROJECT, folder / "gx")
    with contextlib.chdir(project):
        run_gates(folder)
    return folder


def run_gates(reports: Path) -> None:
    """Every gate on the project in the current folder, with the paths of dvc.yaml under `reports`."""
    data, artifacts = Path("data"), Path("artifacts")
    schema, features, training = data / "schema.json", data / "features", data / "training"

    def paths(name: str) -> dict[str, Path]:
        return {"report": reports / f"{name}.json", "docs": reports / name}

    scratch = reports.parent / "accepted", reports.parent / "quarantine"
    validated = data / "validated"
    validate(schema=schema, ingested=validated, out=scratch[0], quarantine=scratch[1], **paths("validation"))
    with contextlib.suppress(ValidationError):  # so small a world is not without faults
        inspect_training(
            schema=schema, validated=validated, features=features, training=training, **paths("inspection/training")
        )
    encoder, tensors = artifacts / "encoder.parquet", data / "tensors"
    inspect_tensors(schema=schema, encoder=encoder, training=training, tensors=tensors, **paths("inspection/tensors"))
    online = artifacts / "online.db"
    inspect_online(schema=schema, features=features, online=online, **paths("inspection/online"))
    model = artifacts / "models" / "hinet_plus"
    drift(current=training / "test.parquet", reference=model, out=reports / "drift", report_only=True)


@pytest.fixture
def context(reports: Path) -> Any:
    """What a user opens."""
    return gx.get_context(mode="file", project_root_dir=reports)


def test_a_context_finds_the_suites_definitions_and_checkpoints_of_every_gate(context: Any) -> None:
    """One suite and one validation definition per table, one checkpoint per gate."""
    names = {f"{gate}.{table}" for gate, tables in TABLES.items() for table in tables}
    assert {suite.name for suite in context.suites.all()} == names
    assert {definition.name for definition in context.validation_definitions.all()} == names
    definitions = {checkpoint.name: checkpoint.validation_definitions for checkpoint in context.checkpoints.all()}
    assert {gate: [d.name for d in of_gate] for gate, of_gate in definitions.items()} == {
        gate: [f"{gate}.{table}" for table in tables] for gate, tables in TABLES.items()
    }
    (unique,) = [
        e for e in context.suites.get("validation.events").expectations if e.meta["rule"] == "repeated event_id"
    ]
    assert unique.severity == "critical"


def test_a_context_finds_the_results_of_the_last_run(context: Any, reports: Path) -> None:
    """One result per suite, with the verdict and the counts of the gate's report."""
    results = [context.validation_results_store.get(key) for key in context.validation_results_store.list_keys()]
    assert len(results) == sum(map(len, TABLES.values()))
    (events,) = [result for result in results if result.suite_name == "validation.events"]
    report = yaml.safe_load((reports / "validation.json").read_text())["tables"]["events"]
    assert events.success == report["passed"]
    assert events.statistics["evaluated_expectations"] == report["expectations"]
    assert max(one.result.get("element_count", 0) for one in events.results) == report["rows"]


def test_build_data_docs_writes_one_site_in_our_theme(context: Any, reports: Path) -> None:
    """The site holds all gates and needs no network; the outputs of the gates stay as they were."""
    before = digests(reports)
    (index,) = context.build_data_docs().values()
    assert index == (reports / "gx" / "pages" / "index.html").as_uri()
    pages = sorted((reports / "gx" / "pages").rglob("*.*"))
    assert len([page for page in pages if page.is_file()]) == 1 + 2 * sum(map(len, TABLES.values()))
    for page in filter(Path.is_file, pages):
        text = page.read_text()
        assert "://" not in text
        assert "<script" not in text
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert (page.parent / link).is_file(), f"{page} links to {link}"
    assert {path: digest for path, digest in digests(reports).items() if "pages" not in Path(path).parts} == before


def test_the_folder_of_a_gate_is_a_project_too(reports: Path) -> None:
    """One gate, e.g. that of one drift report, opens by itself; neither that nor building its pages changes a byte."""
    docs = reports / "inspection" / "tensors"
    before = digests(docs)
    context = gx.get_context(mode="file", project_root_dir=docs)
    assert [checkpoint.name for checkpoint in context.checkpoints.all()] == ["tensors"]
    context.build_data_docs()
    assert digests(docs) == before


def test_the_page_of_the_guide_runs(reports: Path, project: Path, tmp_path: Path, capsys: Any) -> None:
    """docs/how-to/great-expectations.md is a transcript: its code, in a folder with reports/, prints what it says.

    A suite of the user has its place beside the gates and stands in the same Data Docs.
    """
    shutil.copytree(reports, tmp_path / "reports")
    (tmp_path / "data" / "ingested").mkdir(parents=True)
    shutil.copy(project / "data" / "validated" / "items.parquet", tmp_path / "data" / "ingested")
    text = (ROOT / "docs" / "how-to" / "great-expectations.md").read_text()
    code = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    with contextlib.chdir(tmp_path):
        exec(compile(code, "great-expectations.md", "exec"), {})
    expected = [line.removeprefix("# ") for line in code.splitlines() if line.startswith("# ")]
    printed = capsys.readouterr().out.splitlines()
    assert [line.replace(str(tmp_path), "/...") for line in printed] == expected
    assert (tmp_path / "reports" / "gx" / "expectations" / "prices.json").is_file()
    assert "prices" in (tmp_path / "reports" / "gx" / "pages" / "index.html").read_text()


def test_the_project_file_is_that_of_the_code() -> None:
    """reports/gx/great_expectations.yml names each gate with the folder that dvc.yaml gives it."""
    expected = gx_project.configuration(gx_project.GATES, pages="pages")
    assert yaml.safe_load((ROOT / PROJECT).read_text()) == expected
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    outputs = {str(output) for stage in stages for output in stage.get("outs", [])}
    for folder in gx_project.GATES.values():
        assert any(f"reports/{folder}".startswith(f"{output}/") for output in outputs), folder
