"""The README is true: graph, stages, table, tree and commands. `python tests/test_readme.py` rewrites its blocks."""

import io
import json
import re
import subprocess
import sys

import pydantic
import pytest
import yaml
from rich.console import Console

from common.paths import ROOT

sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from common.params import Params  # noqa: E402
from features import datasets  # noqa: E402
from features.aggregate import feature_views  # noqa: E402
from models.evaluation.results_table import auc_table  # noqa: E402
from serving.ranking.request import batch_type, request_type  # noqa: E402

README = (ROOT / "README.md").read_text()
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = Params.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text()))


def graph() -> str:
    """The graph as DVC draws it."""
    command = [sys.executable, "-m", "dvc", "dag", "--mermaid"]
    drawn = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return f"```mermaid\n{drawn.strip()}\n```"


def stages() -> str:
    """Name and `desc` of every stage."""
    described = {name: stage.get("do", stage)["desc"].replace("${item}", "a model") for name, stage in STAGES.items()}
    rows = (f"| `{name}` | {desc} |" for name, desc in described.items())
    return "\n".join(["| stage | what it does |", "|---|---|", *rows])


def table() -> str:
    """The table of the last run that is in git."""
    console = Console(width=100, no_color=True, record=True, file=io.StringIO())
    console.print(auc_table(json.loads((ROOT / "reports" / "metrics.json").read_text())))
    return "```\n" + "\n".join(line.rstrip() for line in console.export_text().splitlines()).strip("\n") + "\n```"


BLOCKS = {"graph": graph, "stages": stages, "table": table}


def written(name: str) -> str:
    """What the README says between the marks of a block."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found[1]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_says_what_is(name: str) -> None:
    """Graph, stages and table are those of dvc.yaml and reports/metrics.json."""
    assert written(name) == BLOCKS[name](), "run `python tests/test_readme.py`"


def tracked() -> list[str]:
    """The files in git, and those about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_tree_names_what_exists_and_forgets_no_folder() -> None:
    """Every path of the tree exists, and every folder of the project with code in it is there."""
    lines = [line.split("  ")[0].rstrip() for line in written("tree").splitlines() if not line.startswith("```")]
    made = {"data/", "artifacts/"}  # by a run
    named, folder = set(), ""
    for line in lines:
        if not line.startswith(" "):
            folder = line if line.endswith("/") else ""
        named.add(line if not line.startswith(" ") else folder + line.strip())
    assert all((ROOT / path).exists() for path in named - made), named
    folders = {f"{path.split('/')[0]}/" for path in tracked() if path.endswith(".py") and "/" in path}
    assert folders <= named


def test_the_commands_exist() -> None:
    """Every `make` target of README and docs is one of the Makefile, and every module that is run is there."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [README, *(page.read_text() for page in (ROOT / "docs").glob("*.md"))]
    named = {target for page in pages for target in re.findall(r"(?:^|`)make ([a-z]+)", page, re.MULTILINE)}
    assert named <= targets
    packages = "features|models|serving|monitoring|flows"
    modules = {name for page in pages for name in re.findall(rf"python -m ((?:{packages})[\w.]*\w)", page)}
    assert all((ROOT / f"{name.replace('.', '/')}.py").exists() for name in modules)


def test_each_curl_is_a_valid_request() -> None:
    """The bodies of the README's curls are accepted by the service's own types for the embedded data set."""
    schema = datasets.declare(PARAMS.dataset)
    accepted = request_type(schema, PARAMS.serve, feature_views(schema, PARAMS.aggregate))
    bodies = re.findall(r"3000/(\w+) -H 'Content-Type: application/json' \\\n  -d '(.*?)'\n", README)
    assert [path for path, _ in bodies] == ["rank", "rank", "rank_batch"]
    for path, body in bodies:
        kind = accepted if path == "rank" else batch_type(accepted, PARAMS.serve)
        pydantic.TypeAdapter(kind).validate_json(body)


def test_every_parameter_of_a_command_exists() -> None:
    """`-S section.key=value` names a parameter of params.yaml."""
    plain = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, key in re.findall(r"-S (\w+)\.(\w+)=", README):
        assert key in plain[section]


def test_every_link_leads_somewhere() -> None:
    """The files that README and docs link to exist."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def rewrite() -> None:
    """Put what is into the README's blocks."""
    text = README
    for name, block in BLOCKS.items():
        text = text.replace(f"<!-- {name} -->\n{written(name)}\n", f"<!-- {name} -->\n{block()}\n")
    (ROOT / "README.md").write_text(text)


if __name__ == "__main__":
    rewrite()
