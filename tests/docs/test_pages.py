"""README and documentation name only commands, options, parameters, variables and files that exist."""

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from ruamel.yaml import YAML

from common import params, run_identity, stage_report
from common.paths import ROOT
from common.settings import Settings, variable
from docs.generator.commands import PACKAGES, TARGET, commands
from docs.generator.http_api import accepted_type
from docs.generator.metrics import declared
from features import datasets
from models.model_folder import NETWORKS
from monitoring.report.wording import KINDS
from serving.events.event_request import event_type
from serving.ranking.request import batch_type

pytestmark = pytest.mark.unit
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]  # the changelog names what is gone
SITE = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name not in ("decisions", "python")]
PAGES = TOP + SITE
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SHELL = re.compile(r"^ *```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


@functools.cache
def known_options() -> dict[str, set[str]]:
    """The options of every command of the project."""
    return {command.module: {option.name for option in command.options} for command in commands(ROOT)}


def lines(page: Path) -> list[list[str]]:
    """The words of every command in the shell blocks of a page."""
    blocks = "\n".join(SHELL.findall(page.read_text())).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines() if line.strip()]


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module that a command runs with `-m`, and what it is given; nothing where it runs none."""
    index = words.index("-m") if "-m" in words else None
    return ("", []) if index is None else (words[index + 1], words[index + 2 :])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_module_and_its_options_exist(page: Path) -> None:
    """Every `-m MODULE --option` in a shell block is a command of the project with that option."""
    known = known_options()
    for module, given in map(module_of, lines(page)):
        if module.split(".")[0] in PACKAGES:
            assert module in known, f"there is no command {module}"
            assert {word for word in given if word.startswith("--")} <= known[module] | {"--help"}, module


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_module_that_is_named_exists(page: Path) -> None:
    """Also outside of shell blocks; the example of a stage is no stage."""
    text = re.sub(r"```yaml\n.*?```", "", page.read_text(), flags=re.DOTALL)
    named = re.findall(rf"python -m ((?:{'|'.join(PACKAGES)})[\w.]*\w)", text)
    assert set(named) <= set(known_options())


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_make_target_exists(page: Path) -> None:
    """Every `make TARGET` is one of the Makefile."""
    targets = {name for name, _ in TARGET.findall((ROOT / "Makefile").read_text())}
    named = re.findall(r"(?:^|`|@|&& )make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


@functools.cache
def parameters() -> set[str]:
    """The dotted path of every key of params.yaml, of mappings too."""

    def keys(plain: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        yield ".".join(path)
        for name, held in plain.items() if isinstance(plain, dict) else ():
            yield from keys(held, (*path, name))

    return set(keys(YAML(typ="safe").load((ROOT / "params.yaml").read_text())))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_parameter_exists(page: Path) -> None:
    """Every `-S KEY=VALUE`, every `--set KEY=VALUE` and every `section.key` in code is a key of params.yaml."""
    text = page.read_text()
    given = re.findall(r"(?:-S|--set) '?([a-z_.-]+)=", text)
    sections = "|".join(name for name in parameters() if name and "." not in name)
    named = [key for key in re.findall(rf"`((?:{sections})\.[a-z_.-]+)(?:: [^`]*)?`", text) if not is_path(key)]
    assert {key.rstrip(".") for key in [*given, *named]} <= parameters()


def is_path(name: str) -> bool:
    """Whether a dotted name is a module of the project, or a file."""
    return (ROOT / f"{name.replace('.', '/')}.py").exists() or name.endswith((".py", ".json", ".yaml", ".parquet"))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_variable_of_the_project_exists(page: Path) -> None:
    """Every HINET_... is a field of Settings, or is set by a flow for its processes."""
    known = {variable(name) for name in Settings.model_fields} | {stage_report.VARIABLE, run_identity.VARIABLE}
    assert set(re.findall(r"\bHINET_[A-Z_]*[A-Z]", page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_metric_exists(page: Path) -> None:
    """Every hinet_... in code is a metric of the service, a series of one, or the name of a network."""
    assert set(re.findall(r"\bhinet_[a-z_]*[a-z]", page.read_text())) <= metric_names() | set(NETWORKS)


@functools.cache
def metric_names() -> set[str]:
    """The metrics of the service, and their series."""
    return {name for metric in declared(ROOT) for name in (metric.name, *metric.series)}


@pytest.mark.parametrize("page", TOP, ids=[page.name for page in TOP])
def test_a_link_leads_to_a_file(page: Path) -> None:
    """The files that the pages outside of the site link to exist; `make docs` checks those of the site."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "quickstart.md"], ids=["README", "quickstart"])
def test_each_curl_is_a_valid_request(page: Path) -> None:
    """The bodies of the curls are accepted by the service's own types for the embedded data set."""
    settings = params.load(ROOT / "params.yaml")
    one, event = accepted_type(ROOT), event_type(datasets.declare(settings.dataset))
    text = page.read_text().replace("'$(date -u +%FT%TZ)'", "2026-01-18T12:00:00Z")
    bodies = re.findall(r"3000/(\w+) -H 'Content-Type: application/json' \\\n *-d '(.*?)'\n", text)
    assert bodies
    for path, body in bodies:
        kind = {"rank": one, "rank_batch": batch_type(one, settings.serve), "events": event}[path]
        pydantic.TypeAdapter(kind).validate_json(body)


def test_every_kind_of_drift_has_a_first_step() -> None:
    """The table of the how-to page has each kind that a finding may be of."""
    text = (ROOT / "docs" / "how-to" / "read-a-drift-report.md").read_text()
    table = text.split("## Where to look first")[1].split("##")[0]
    kinds = {kind for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for kind in re.findall(r"`(\w+)`", row)}
    assert kinds == set(KINDS)
