"""What Kustomize makes of deploy/kubernetes."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.paths import ROOT
from tests.support.work_pools import job

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("overlays/single", "overlays/team", "training")


@functools.cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    """The objects that `kubectl apply -k` would send; do not change them."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl to render the manifests: https://kubernetes.io/docs/tasks/tools")
    command = ["kubectl", "kustomize", str(KUBERNETES / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), "an error, or a warning of something deprecated"
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """The objects of these kinds by name."""
    return {one["metadata"]["name"]: one for one in rendered(overlay) if one["kind"] in kinds}


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods that are made of the objects, by the name of the object."""
    for name, one in of_kind(overlay, "Deployment", "StatefulSet", "Job", "CronJob").items():
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
        yield name, spec["template"]


def every_pod() -> list[Any]:
    """Each pod of each overlay, and that of a run of a flow."""
    made = [(overlay, name, pod) for overlay in OVERLAYS for name, pod in pods(overlay)]
    return [*made, ("team", "run", job("clone").job_manifest["spec"]["template"])]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of a pod, the initial ones, too."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def of_key(value: Any, key: str) -> list[Any]:
    """The values of `key` at any depth."""
    if isinstance(value, list):
        return [one for part in value for one in of_key(part, key)]
    if not isinstance(value, dict):
        return []
    own = [value[key]] if key in value else []
    return own + [one for part in value.values() for one in of_key(part, key)]


def open_ports(container: dict[str, Any]) -> set[Any]:
    """The ports of a container by name and by number."""
    return {value for port in container.get("ports", []) for value in (port["name"], port["containerPort"])}
