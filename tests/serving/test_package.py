"""The bento: its contents, that equal inputs give equal bytes, and that it answers as the project does."""

import ast
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import bentoml
import pytest
import yaml
from bentoml._internal.bento import BentoStore
from bentoml._internal.models import ModelStore

from common.errors import ModelError
from common.files import sha256_of
from common.paths import ROOT
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import NETWORKS, read_model
from serving.bento.image import CONSTRAINTS, ENVIRONMENT, HOME
from serving.bento.manifest import MANIFEST, check_manifest
from serving.bento.source import PACKAGES, copy_source
from serving.bento.store import store_bento
from serving.package import package
from tests.support import tiny_project
from tests.support.service_process import bentoml_serve, complete_answer, wait_until_ready

SECRET = "a-secret-that-no-file-may-contain"
REQUESTS = (
    {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2, 8]},
    {"user_id": 1000, "scenario": "feed", "candidates": [2000, 0], "context": {"hour": 7}},
    {"user_id": 5, "scenario": "channel", "candidates": [4, 5, 6], "objective": {"click": 1, "order": 0}},
    {"user_id": 5, "scenario": "home", "candidates": []},
)
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def bento(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bento of the tiny project, packed by a private person in an environment with a secret."""
    out = tmp_path_factory.mktemp("bento") / "bento"
    umask = os.umask(0o077)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HINET_API_KEY", "AWS_SECRET_ACCESS_KEY", "BENTOML_SOMETHING"):
            patch.setenv(name, SECRET)
        package(
            model=project / tiny_project.MODEL,
            online=project / tiny_project.ONLINE,
            out=out,
            store=out.parent / "home",
        )
    os.umask(umask)
    return out


def names(folder: Path) -> set[str]:
    """Every file under `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_equal_inputs_give_equal_bytes(bento: Path, project: Path, tmp_path: Path) -> None:
    """In another process, at another time, with another hash seed."""
    command = [sys.executable, "-m", "serving.package", "--model", project / tiny_project.MODEL]
    command += ["--online", project / tiny_project.ONLINE, "--out", tmp_path / "again"]
    command += ["--store", tmp_path / "home"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True)
    assert names(tmp_path / "again") == names(bento)
    assert filecmp.cmpfiles(bento, tmp_path / "again", names(bento), shallow=False)[1:] == ([], [])


def test_the_bento_has_model_store_and_parameters_unchanged(bento: Path, project: Path) -> None:
    """They are equal to the byte; the version is the model's tag, and the labels name schema and store."""
    stores = (tiny_project.ONLINE, item_snapshot_path(tiny_project.ONLINE))
    for name in (*stores, *(tiny_project.MODEL / path.name for path in (project / tiny_project.MODEL).iterdir())):
        assert (bento / "src" / name).read_bytes() == (project / name).read_bytes()
    assert (bento / "src" / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    model, bentofile = (
        read_model(bento / "src" / tiny_project.MODEL),
        yaml.safe_load((bento / "bento.yaml").read_text()),
    )
    assert bentofile["version"] == bentofile["labels"]["model"] == model.tag
    assert bentofile["labels"]["schema"] == model.schema.fingerprint()
    assert "creation_time" not in bentofile


def test_the_source_has_only_what_the_service_needs(bento: Path) -> None:
    """It has no pickle and no compiled code, no stage, and no network but the packed model's."""
    assert {Path(name).suffix for name in names(bento / "src")} == {
        ".py",
        ".yaml",
        ".json",
        ".db",
        ".parquet",
        ".safetensors",
    }
    code = {name for name in names(bento / "src") if name.endswith(".py")}
    assert {"serving/service.py", "serving/shadow/worker.py", "models/networks/hinet.py", "common/params.py"} <= code
    assert {"features/store/parquet_store.py", "features/store/arrow_engine.py"} <= code  # named by its settings only
    assert not {"serving/package.py", "models/train.py", "features/validate.py", "features/join.py"} & code
    assert not {name for name in code if name.startswith(("models/peers/", "models/training/"))}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_source_has_the_module_of_the_packed_network(tmp_path: Path, network: str) -> None:
    """A network is imported by name, which no search of import statements finds."""
    copy_source(tmp_path, network=network)
    module = NETWORKS[network].split(":")[0]
    assert (tmp_path / f"{module.replace('.', '/')}.py").is_file()


def test_the_source_is_enough_to_import_the_packed_network(tmp_path: Path) -> None:
    """The source has everything that the network's module imports."""
    copy_source(tmp_path, network="pepnet")
    code = f"import pkgutil; pkgutil.resolve_name({NETWORKS['pepnet']!r})"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_the_bento_has_no_secret(bento: Path) -> None:
    """It has nothing of the environment in which it was packed, and no file that is made for secrets."""
    assert not [name for name in names(bento) if SECRET.encode() in (bento / name).read_bytes()]
    assert not [name for name in names(bento) if Path(name).name.startswith((".env", "credentials", "id_rsa"))]
    variables = {one["name"] for one in yaml.safe_load((bento / "bento.yaml").read_text())["envs"]}
    assert variables == {"OMP_NUM_THREADS", *ENVIRONMENT}


def test_the_dockerfile_installs_the_tested_packages_without_cuda(bento: Path) -> None:
    """Their versions and torch for CPUs are set before they are installed; no compiler is."""
    lines = (bento / "env" / "docker" / "Dockerfile").read_text().splitlines()
    (install,) = (number for number, line in enumerate(lines) if "uv --directory" in line)
    assert lines.index("ARG UV_TORCH_BACKEND=cpu") < install
    assert lines.index(f"ARG UV_CONSTRAINT={HOME}/bento/{CONSTRAINTS}") < install
    assert lines.index("COPY --chown=bentoml:bentoml ./env/python ./env/python/") < install
    assert (bento / CONSTRAINTS).read_bytes() == (ROOT / "constraints.txt").read_bytes()
    assert not [line for line in lines if "apt-get" in line or "build-essential" in line]


def test_the_image_runs_as_any_user_with_read_only_files(bento: Path) -> None:
    """Not as root; every file is readable though a private person packed it, and BentoML's folders are there."""
    lines = (bento / "env" / "docker" / "Dockerfile").read_text().splitlines()
    assert f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim AS base-container" in lines
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER bentoml"
    assert f"RUN mkdir -p {HOME}/bentos {HOME}/models {HOME}/envs {HOME}/tmp && chmod 755 {HOME}" in lines
    modes = {path: path.stat().st_mode for path in (bento, *bento.rglob("*"))}
    assert not [path for path, mode in modes.items() if mode & 0o004 == 0 or (path.is_dir() and mode & 0o001 == 0)]


def test_a_changed_bento_is_not_served(bento: Path, tmp_path: Path) -> None:
    """The manifest has every file of its source; one byte more in the online store, and the service does not start."""
    moved = shutil.copytree(bento, tmp_path / "moved")
    check_manifest(moved / "src")
    listed = set(json.loads((moved / "src" / MANIFEST).read_text()))
    assert listed == names(moved / "src") - {MANIFEST}
    with (moved / "src" / tiny_project.ONLINE).open("ab") as store:
        store.write(b"x")
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "bentoml", "serve", moved, "--port", "0"]
    refused = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert refused.returncode != 0
    assert "online.db: expected sha256" in refused.stdout + refused.stderr


def test_the_requirements_are_the_imported_packages(bento: Path) -> None:
    """Every package that the source imports is required with its version, and no other is."""
    files = (bento / "src").rglob("*.py")
    imported = {name for path in files for name in _imports(ast.parse(path.read_text()))}
    owners = packages_distributions()
    own = {path.stem for path in (bento / "src").iterdir()}
    required = {name.split("[")[0] for name in PACKAGES} | {"bentoml"}
    several = {name: set(owners[name]) for name in imported - own - sys.stdlib_module_names}  # namespaces have several
    needed = {owner.lower() for of_name in several.values() for owner in of_name & required or of_name}
    assert needed == {name.lower() for name in required}
    lines = (bento / "env" / "python" / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in lines)
    assert {line.split("==")[0].split("[")[0].lower() for line in lines} == needed


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_the_bento_has_the_openapi_document_of_the_service(bento: Path) -> None:
    """apis/openapi.yaml has the paths of the service, and the scenarios of the schema."""
    document = yaml.safe_load((bento / "apis" / "openapi.yaml").read_text())
    assert {"/rank", "/rank_batch", "/model", "/metrics", "/readyz"} <= set(document["paths"])
    request = document["components"]["schemas"]["RankRequest"]
    assert request["properties"]["scenario"]["enum"] == ["feed", "search", "channel"]


def test_a_missing_store_is_reported(project: Path, tmp_path: Path) -> None:
    """The message names the file and the command that makes it."""
    out = tmp_path / "bento"
    with pytest.raises(ModelError, match=r"nowhere.db does not exist: run `dvc repro materialize`"):
        package(model=project / tiny_project.MODEL, online=tmp_path / "nowhere.db", out=out, store=tmp_path / "home")


def test_a_damaged_model_is_not_packed(project: Path, tmp_path: Path) -> None:
    """Weights that differ from the sha256 of model.json stop the stage."""
    shutil.copytree(project / tiny_project.MODEL, tmp_path / "model")
    with (tmp_path / "model" / "weights.safetensors").open("ab") as weights:
        weights.write(b"x")
    out = tmp_path / "bento"
    with pytest.raises(ModelError, match=r"weights.safetensors: expected sha256"):
        package(model=tmp_path / "model", online=project / tiny_project.ONLINE, out=out, store=tmp_path / "home")


def test_project_and_bento_give_equal_answers(
    bento: Path, project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`bentoml serve` without arguments in the project, and on a bento that was moved, answer with equal bytes.

    Both are alive, ready, measured and described, and print no warning.
    """
    shutil.copytree(bento, tmp_path / "moved")
    sources = {"HINET_MODEL": project / tiny_project.MODEL, "HINET_ONLINE_STORE": project / tiny_project.ONLINE}
    with (
        bentoml_serve([], ROOT, tmp_path / "root", **sources) as root,
        bentoml_serve([tmp_path / "moved"], tmp_path, tmp_path / "home") as packed,
    ):
        wait_until_ready(root, packed)
        for request in REQUESTS:
            expected, answer = (complete_answer(client, request) for client in (root, packed))
            assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
        assert [client.post("/rank", json=REQUESTS[0]).status_code for client in (root, packed)] == [200, 200]
        for client in (root, packed):
            assert [client.get(path).status_code for path in ("/healthz", "/livez", "/readyz", "/")] == [200] * 4
            assert 'hinet_requests_total{path="/rank",status="200"}' in client.get("/metrics").text
            assert "/rank" in client.get("/docs.json").json()["paths"]
    assert not re.search("deprecat|warn", "".join(capfd.readouterr()), re.IGNORECASE)
    assert names(tmp_path / "moved") - names(bento) <= {n for n in names(tmp_path / "moved") if n.endswith(".pyc")}


def test_the_bento_and_its_model_are_in_the_store_of_bentoml(bento: Path, project: Path) -> None:
    """As the latest, with their labels and a creation time; the bento's files are hard links to those of the output."""
    home, tag = bento.parent / "home", read_model(project / tiny_project.MODEL).tag
    entry = bentoml.get("hinet:latest", _bento_store=BentoStore(home / "bentos"))
    model = bentoml.models.get("hinet:latest", _model_store=ModelStore(home / "models"))
    assert str(entry.tag) == str(model.tag) == f"hinet:{tag}"
    assert entry.info.labels["model"] == tag
    assert names(Path(entry.path)) == names(bento)
    assert (Path(entry.path) / "src" / tiny_project.ONLINE).samefile(bento / "src" / tiny_project.ONLINE)
    assert "creation_time" not in (bento / "bento.yaml").read_text()
    assert model.info.labels["first_day"] == "2026-01-05"
    assert model.info.labels["data"] == sha256_of(project / tiny_project.MODEL / "reference.json")
    assert Path(model.path_of("weights.safetensors")).stat().st_size > 0


def test_a_model_without_some_metrics_is_stored(bento: Path, project: Path, tmp_path: Path) -> None:
    """A scenario whose validation rows have one class has no AUC, at any depth of what the model folder says."""
    model = shutil.copytree(project / tiny_project.MODEL, tmp_path / "model")
    document = json.loads((model / "model.json").read_text())
    document["summary"] |= {"best_epoch": 2, "unknown": None, "cells": [{"scenario": "home", "auc": None}, None]}
    curves = [{"epoch": 2, "cells": {"home/click": 0.5, "home/order": None}}]
    (model / "model.json").write_text(json.dumps(document))
    (model / "curves.json").write_text(json.dumps(curves))
    store_bento(bento, model, tag="nulls", home=tmp_path / "home")
    stored = bentoml.models.get("hinet:nulls", _model_store=ModelStore(tmp_path / "home" / "models")).info.metadata
    assert stored["metrics"] == {"home/click": 0.5}
    assert "unknown" not in stored["summary"]
    assert stored["summary"]["cells"] == [{"scenario": "home"}]


def test_the_store_keeps_the_newest(
    bento: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is stored again is replaced; beyond KEPT the oldest go; the one stored last is the latest."""
    monkeypatch.setattr("serving.bento.store.KEPT", 2)
    for version in ("one", "two", "three", "two"):
        source = shutil.copytree(bento, tmp_path / version, dirs_exist_ok=True)
        text = (bento / "bento.yaml").read_text()
        (source / "bento.yaml").write_text(re.sub(r"^version: .*$", f"version: {version}", text, flags=re.MULTILINE))
        store_bento(source, project / tiny_project.MODEL, tag=version, home=tmp_path / "home")
    store = BentoStore(tmp_path / "home" / "bentos")
    assert {entry.tag.version for entry in bentoml.list(_bento_store=store)} == {"two", "three"}
    assert bentoml.get("hinet:latest", _bento_store=store).tag.version == "two"
    bentoml.delete("hinet:latest", _bento_store=store)
    assert bentoml.get("hinet:latest", _bento_store=store).tag.version == "three"
