"""A real service of two workers with an A/B test, over HTTP: a challenger that is not there, comes, and is replaced."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serving.variants import perturbed_model
from common.paths import ROOT
from models.model_folder import read_model
from serving.ranking.ab_split import CHALLENGER, CHAMPION, arm_of
from tests.support import tiny_project
from tests.support.service_process import bentoml_serve, wait_until_ready
from tests.support.serving import samples
from tests.support.waiting import wait_until

SALT, SHARE, USERS = "first", 0.4, 60
SECONDS = 240.0  # for both workers to see a changed folder, on a busy machine
pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def link(project: Path, tmp_path: Path) -> Path:
    """A link to the folder of a challenger, which is not there; two others are: `one` and `two`."""
    for seed, name in ((1, "one"), (2, "two")):
        perturbed_model(project / tiny_project.MODEL, tmp_path / name, seed=seed)
    (tmp_path / "challenger").symlink_to("nowhere")
    return tmp_path / "challenger"


@pytest.fixture
def client(project: Path, link: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the service with its test."""
    environment = {
        "HINET_MODEL": project / tiny_project.MODEL,
        "HINET_ONLINE_STORE": project / tiny_project.ONLINE,
        "HINET_WORKERS": 2,
        "HINET_AB_CHALLENGER": link,
        "HINET_AB_SHARE": SHARE,
        "HINET_AB_SALT": SALT,
    }
    with bentoml_serve([], ROOT, tmp_path / "home", **environment) as opened:
        wait_until_ready(opened)
        yield opened


def use(link: Path, name: str) -> None:
    """Replace a link by a rename, as a release does."""
    (link.parent / "new").symlink_to(name)
    (link.parent / "new").replace(link)


def answers(client: httpx.Client) -> list[dict[str, Any]]:
    """The answers to a request of each user, each on a connection of its own: of either worker."""
    bodies = [{"user_id": user, "scenario": "feed", "candidates": list(range(9))} for user in range(USERS)]
    responses = [httpx.post(f"{client.base_url}/rank", json=body, timeout=60) for body in bodies]
    assert {response.status_code for response in responses} == {200}
    return [response.json() for response in responses]


def models(client: httpx.Client) -> dict[str, set[str]]:
    """The models that answer each arm."""
    tags: dict[str, set[str]] = {CHAMPION: set(), CHALLENGER: set()}
    for answer in answers(client):
        tags[answer["arm"]].add(answer["model"])
    return tags


def test_two_workers_serve_two_models(client: httpx.Client, link: Path, project: Path, tmp_path: Path) -> None:
    """The arms are those of the hash in both workers; the champion answers until there is a challenger, flagged."""
    champion, one, two = (
        read_model(path).tag for path in (project / tiny_project.MODEL, tmp_path / "one", tmp_path / "two")
    )
    first = answers(client)
    assert [answer["arm"] for answer in first] == [arm_of(user, SHARE, SALT) for user in range(USERS)]
    assert {answer["model"] for answer in first} == {champion}
    assert all("challenger: it is not loaded" in a["degraded"] for a in first if a["arm"] == CHALLENGER)
    for name, tag in (("one", one), ("two", two)):
        use(link, name)
        wait_until(lambda: models(client) == {CHAMPION: {champion}, CHALLENGER: {tag}}, SECONDS)  # noqa: B023
    use(link, "nowhere")
    assert models(client) == {CHAMPION: {champion}, CHALLENGER: {two}}, "the one in use keeps serving"
    assert client.get("/model").json()["ab"]["challenger"] == two
    page = samples(client.get("/metrics").text)
    outcomes = {dict(labels)["outcome"] for name, *labels in page if name == "hinet_ab_rankings_total"}
    assert outcomes == {"own", "replaced"}
    assert {page["hinet_ab_challenger", ("tag", tag)] for tag in (one, two)} == {1}
