"""The commands and programs of docs/how-to/bentoml.md, typed as the page has them."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from common.paths import ROOT
from serving.package import package
from tests.support import tiny_project
from tests.support.dvc_project import commands, typed
from tests.support.service_process import bentoml_serve, wait_until_ready

PAGE = ROOT / "docs" / "how-to" / "bentoml.md"
ADDRESS = "http://127.0.0.1:3000"
pytestmark = pytest.mark.process


def test_the_activated_environment_names_the_store(tmp_path: Path) -> None:
    """What `make setup` adds to .venv/bin/activate are the variables that make exports."""
    (line,) = re.findall(r"^\t@(.*activate)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    rule = f"include {ROOT}/Makefile\nactivation:\n\t@{line}\n"
    subprocess.run(["make", "-f", "-", "activation"], cwd=tmp_path, input=rule, text=True, check=True)
    shown = typed("source .venv/bin/activate; echo $BENTOML_HOME $BENTOML_DO_NOT_TRACK", tmp_path)
    assert shown.split() == [str(tmp_path / "artifacts" / "bentoml"), "True"]


@pytest.fixture(scope="module")
def home(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of BentoML after the stage `package` of the tiny project."""
    folder = tmp_path_factory.mktemp("packaged")
    model, online = project / tiny_project.MODEL, project / tiny_project.ONLINE
    package(model=model, online=online, out=folder / "bento", store=folder / "home")
    return folder / "home"


@pytest.mark.slow
def test_the_store_lists_moves_and_deletes(home: Path, tmp_path: Path) -> None:
    """`bentoml list`, `get`, `models list`, `models get`; export, delete and import, and the packaged bento stays."""
    (listed,) = commands("Bentos and models in BentoML's store", PAGE)
    (version,) = (path.name for path in (home / "bentos" / "hinet").iterdir() if path.is_dir())
    shown = typed(listed, tmp_path, BENTOML_HOME=str(home))
    assert shown.count(f"hinet:{version}") == 2
    assert "online_store: " in shown
    assert "first_day: '2026-01-05'" in shown

    packaged = home.parent / "bento" / "src" / "artifacts" / "online.db"
    before = packaged.read_bytes()
    _, moved, _ = commands("Serve, move and delete a bento", PAGE)
    assert f'hinet:{version}") imported' in typed(moved, tmp_path, BENTOML_HOME=str(home)).replace("\n", "")
    typed("bentoml get hinet:latest; bentoml delete --yes hinet:latest", tmp_path, BENTOML_HOME=str(home))
    assert packaged.read_bytes() == before
    typed("bentoml import hinet.bento", tmp_path, BENTOML_HOME=str(home))


@pytest.mark.slow
def test_a_bento_is_served_by_its_tag_and_called_from_python(home: Path, tmp_path: Path) -> None:
    """`bentoml serve hinet:latest` in any folder; the programs of the page print the items and the model."""
    programs = commands("Call it from Python", PAGE, "python")
    with bentoml_serve(["hinet:latest"], tmp_path, home) as client:
        wait_until_ready(client)
        shown = [run(program, tmp_path, client) for program in programs]
        tag = client.get("/model").json()["tag"]
    assert shown[0].splitlines()[-1] == tag
    assert re.match(r"\[\d+, \d+, \d+, \d+\] \[", shown[0])
    assert len(json.loads(shown[1])) == 3


@pytest.mark.slow
def test_another_service_depends_on_this_one(home: Path, project: Path, tmp_path: Path) -> None:
    """The service of the page, with the ranking service in a process of its own, answers BentoML's client."""
    (feed,) = commands("Depend on it in another service", PAGE, "python")
    (tmp_path / "feed.py").write_text(feed.replace("home_feed", "feed"))
    (command,) = commands("Depend on it in another service", PAGE)
    sources = {"HINET_MODEL": project / tiny_project.MODEL, "HINET_ONLINE_STORE": project / tiny_project.ONLINE}
    with bentoml_serve([command.split()[-1]], tmp_path, home, **sources) as client:
        wait_until_ready(client)
        program = f"import bentoml\nprint(bentoml.SyncHTTPClient({ADDRESS!r}).top(user_id=1))"
        assert len(json.loads(run(program, tmp_path, client))) == 3


def run(program: str, folder: Path, client: object) -> str:
    """What a program of the page prints, with the address of this server in it."""
    address = str(client.base_url).rstrip("/")  # type: ignore[attr-defined]
    (folder / "program.py").write_text(program.replace(ADDRESS, address))
    return typed("python -W ignore program.py", folder).strip()
