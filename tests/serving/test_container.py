"""The image of the bento: it builds, and ranks as a user without a name, with read-only files.

It takes minutes and 5 GB; where no builder of images is installed, or its registry is out of reach, it is skipped.
"""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.package import package
from tests.support import tiny_project
from tests.support.containers import Builder, builder_with
from tests.support.service_process import complete_answer, wait_until_ready

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(3600)]
IMAGE = "localhost/hinet-test:bento"
REQUEST = {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2, 8]}


@pytest.fixture(scope="module")
def builder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A builder with the image of the tiny project's bento, made by the command of the documentation."""
    base = f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    available = builder_with(base)
    if available is None:
        pytest.skip(f"no docker, podman or buildah here has {base}, or can pull it")
    folder = tmp_path_factory.mktemp("container")
    bento, sources = folder / "bento", {"model": project / tiny_project.MODEL, "online": project / tiny_project.ONLINE}
    package(**sources, out=bento, store=folder / "home")
    isolation = ["--isolation", "chroot", "--pull=false"] if available.name == "buildah" else []
    available.run("build", *isolation, "-f", bento / "env" / "docker" / "Dockerfile", "-t", IMAGE, bento)
    yield available
    available.run("rmi", IMAGE)


@pytest.fixture
def port() -> int:
    """A free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_container_ranks_as_the_project_does(builder: Builder, port: int, client: Any) -> None:
    """Any user, read-only files, no HOME; the answer is that of the service in the project."""
    with (
        builder.container(IMAGE, port=port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as there,
    ):
        wait_until_ready(there)
        answer = complete_answer(there, REQUEST)
        assert (answer.status_code, answer.json()) == (200, client.post("/rank", json=REQUEST).json())


def test_the_image_has_no_cuda(builder: Builder, port: int) -> None:
    """Its torch is the one for CPUs, and no package of NVIDIA's libraries is installed."""
    code = "import torch, importlib.metadata as m; print(torch.version.cuda, *(d.name for d in m.distributions()))"
    with builder.container(IMAGE, "python", "-c", code, port=port) as process:
        cuda, *packages = process.communicate(timeout=300)[0].split()
    assert cuda == "None"
    assert "torch" in packages
    assert not [name for name in packages if name.startswith(("nvidia-cu", "nvidia-nccl", "triton"))]
