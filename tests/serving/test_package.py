"""The bento: what is in it, that it is the same every time, and that it answers as the project does."""

import ast
import contextlib
import filecmp
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest
import yaml
from serving.manifest import MANIFEST, check_manifest

from common.errors import ModelError
from common.paths import ROOT
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import read_model
from serving.package import PACKAGES, package
from tests.support import tiny_project

ROOT, SECRET = ROOT, "a-secret-that-nobody-is-to-see"
REQUESTS = (
    {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2, 8]},
    {"user_id": 1000, "scenario": "feed", "candidates": [2000, 0], "context": {"hour": 7}},
    {"user_id": 5, "scenario": "channel", "candidates": [4, 5, 6], "objective": {"click": 1, "order": 0}},
    {"user_id": 5, "scenario": "home", "candidates": []},
)


@pytest.fixture(scope="module")
def bento(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bento of the tiny project, packed where the environment holds a secret."""
    out = tmp_path_factory.mktemp("bento") / "bento"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HINET_API_KEY", "AWS_SECRET_ACCESS_KEY", "BENTOML_SOMETHING"):
            patch.setenv(name, SECRET)
        package(model=project / tiny_project.MODEL, online=project / tiny_project.ONLINE, out=out)
    return out


def names(folder: Path) -> set[str]:
    """Every file under `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_bento_is_the_same_to_the_byte_when_built_again(bento: Path, project: Path, tmp_path: Path) -> None:
    """In another process, at another time, with another order of hashes."""
    command = [sys.executable, "-m", "serving.package", "--model", project / tiny_project.MODEL]
    command += ["--online", project / tiny_project.ONLINE, "--out", tmp_path / "again"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True)
    assert names(tmp_path / "again") == names(bento)
    assert filecmp.cmpfiles(bento, tmp_path / "again", names(bento), shallow=False)[1:] == ([], [])


def test_the_bento_holds_model_store_and_parameters_as_they_are(bento: Path, project: Path) -> None:
    """Byte for byte; its version is the model's tag, and its labels name schema and store."""
    stores = (tiny_project.ONLINE, item_snapshot_path(tiny_project.ONLINE))
    for name in (*stores, *(tiny_project.MODEL / path.name for path in (project / tiny_project.MODEL).iterdir())):
        assert (bento / "src" / name).read_bytes() == (project / name).read_bytes()
    assert (bento / "src" / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    model, facts = read_model(bento / "src" / tiny_project.MODEL), yaml.safe_load((bento / "bento.yaml").read_text())
    assert facts["version"] == facts["labels"]["model"] == model.tag
    assert facts["labels"]["schema"] == model.schema.fingerprint()
    assert "creation_time" not in facts


def test_the_bento_holds_nothing_that_runs_when_it_is_read(bento: Path) -> None:
    """No pickle, no compiled code; the source is that of the service alone."""
    assert {Path(name).suffix for name in names(bento / "src")} == {
        ".py",
        ".yaml",
        ".json",
        ".db",
        ".parquet",
        ".safetensors",
    }
    code = {name for name in names(bento / "src") if name.endswith(".py")}
    assert {"serving/service.py", "models/networks/hinet.py", "features/encode.py", "params.py"} <= code
    assert not {"serving/package.py", "models/train.py", "features/validate.py", "features/join.py"} & code


def test_the_bento_holds_no_secret(bento: Path) -> None:
    """Nothing of the environment in which it was packed, and no file that is made for secrets."""
    assert not [name for name in names(bento) if SECRET.encode() in (bento / name).read_bytes()]
    assert not [name for name in names(bento) if Path(name).name.startswith((".env", "credentials", "id_rsa"))]
    asked = {one["name"] for one in yaml.safe_load((bento / "bento.yaml").read_text())["envs"]}
    assert asked <= {"OMP_NUM_THREADS"}


def test_the_bento_is_held_against_its_sha256(bento: Path, tmp_path: Path) -> None:
    """Every file of its source; one byte of the online store, and it is not served."""
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


def test_the_requirements_are_what_the_source_imports(bento: Path) -> None:
    """Every package that the source names, pinned, and no other."""
    files = (bento / "src").rglob("*.py")
    imported = {name for path in files for name in _imports(ast.parse(path.read_text()))}
    owners = packages_distributions()
    ours = {path.stem for path in (bento / "src").iterdir()}
    packed = {name.split("[")[0] for name in PACKAGES} | {"bentoml"}
    several = {name: set(owners[name]) for name in imported - ours - sys.stdlib_module_names}  # namespaces have several
    needed = {owner.lower() for found in several.values() for owner in found & packed or found}
    assert needed == {name.lower() for name in packed}
    lines = (bento / "env" / "python" / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in lines)
    assert {line.split("==")[0].split("[")[0].lower() for line in lines} == needed


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_the_bento_describes_its_api(bento: Path) -> None:
    """apis/openapi.yaml is the page of the service: it knows POST /rank with the scenarios of the schema."""
    page = yaml.safe_load((bento / "apis" / "openapi.yaml").read_text())
    assert {"/rank", "/rank_batch", "/model", "/metrics", "/readyz"} <= set(page["paths"])
    request = page["components"]["schemas"]["RankRequest"]
    assert request["properties"]["scenario"]["enum"] == ["feed", "search", "channel"]


def test_a_missing_store_is_told(project: Path, tmp_path: Path) -> None:
    """The message names the file and what makes it."""
    with pytest.raises(ModelError, match=r"nowhere.db does not exist: run `dvc repro materialize`"):
        package(model=project / tiny_project.MODEL, online=tmp_path / "nowhere.db", out=tmp_path / "bento")


def test_a_changed_model_is_not_packed(project: Path, tmp_path: Path) -> None:
    """A byte more in the weights than model.json knows of stops the stage."""
    shutil.copytree(project / tiny_project.MODEL, tmp_path / "model")
    with (tmp_path / "model" / "weights.safetensors").open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(ModelError, match=r"weights.safetensors: expected sha256"):
        package(model=tmp_path / "model", online=project / tiny_project.ONLINE, out=tmp_path / "bento")


def test_bentoml_serve_answers_the_same_in_the_root_and_from_the_bento(
    bento: Path, project: Path, tmp_path: Path
) -> None:
    """`bentoml serve`, without arguments in the root and on the bento alone, elsewhere: the same bytes.

    Both are alive, ready, measured and described; both listen on this machine alone.
    """
    shutil.copytree(bento, tmp_path / "moved")
    sources = {"HINET_MODEL": project / tiny_project.MODEL, "HINET_ONLINE_STORE": project / tiny_project.ONLINE}
    with (
        serving([], ROOT, tmp_path / "root", sources) as root,
        serving([tmp_path / "moved"], tmp_path, tmp_path / "home", {}) as packed,
    ):
        wait_until_ready(root, packed)
        for request in REQUESTS:
            expected, found = (whole_answer(client, request) for client in (root, packed))
            assert (found.status_code, found.content) == (expected.status_code, expected.content)
        assert [client.post("/rank", json=REQUESTS[0]).status_code for client in (root, packed)] == [200, 200]
        for client in (root, packed):
            assert [client.get(path).status_code for path in ("/healthz", "/livez", "/readyz", "/")] == [200] * 4
            assert 'hinet_requests_total{path="/rank",status="200"}' in client.get("/metrics").text
            assert "/rank" in client.get("/docs.json").json()["paths"]
    assert names(tmp_path / "moved") - names(bento) <= {n for n in names(tmp_path / "moved") if n.endswith(".pyc")}


def whole_answer(client: httpx.Client, request: dict, seconds: float = 60) -> httpx.Response:
    """The answer to `request` once it is the whole truth: on a busy machine the store may be too slow at first."""
    until = time.monotonic() + seconds
    while (response := client.post("/rank", json=request)).status_code == 200 and response.json()["degraded"]:
        assert time.monotonic() < until, response.text
        time.sleep(0.2)
    return response


@contextlib.contextmanager
def serving(arguments: list[Path], folder: Path, home: Path, more: dict[str, Path]) -> Iterator[httpx.Client]:
    """A client of `bentoml serve arguments`, started in `folder` as a person would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"BENTOML_HOME": str(home)} | {name: str(path) for name, path in more.items()}
    command = [sys.executable, "-m", "bentoml", "serve", *map(str, arguments), "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_ready(*clients: httpx.Client, seconds: float = 240) -> None:
    """Return when every server says that it is ready."""
    until = time.monotonic() + seconds
    for client in clients:
        while not _ready(client):
            assert time.monotonic() < until, f"{client.base_url} is not ready after {seconds} s"
            time.sleep(0.2)


def _ready(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False
