"""The templates of the work pools, and the jobs that Prefect's workers make of them."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import jsonpatch
from prefect.client.schemas.objects import FlowRun
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from common.paths import ROOT

POOLS = {
    "docker": DockerWorkerJobConfiguration,
    "kubernetes": KubernetesWorkerJobConfiguration,
    "clone": KubernetesWorkerJobConfiguration,  # runs in a fresh clone of the project
}


def template(kind: str) -> dict[str, Any]:
    """The template of the work pools of that type; `clone` is that of Kubernetes with a patch."""
    if kind == "clone":
        patch = (ROOT / "deploy" / "work-pools" / "clone.patch.json").read_text()
        return jsonpatch.apply_patch(template("kubernetes"), patch)
    read: dict[str, Any] = json.loads((ROOT / "deploy" / "work-pools" / f"{kind}.json").read_text())
    return read


def job(kind: str, **variables: Any) -> Any:
    """The job that a worker of that type makes for a run with these job variables."""
    made = asyncio.run(
        POOLS[kind].from_template_and_values(template(kind), variables, client=SimpleNamespace())  # asks no server
    )
    made.prepare_for_flow_run(FlowRun(name="brave-owl", flow_id=uuid4()))
    return made
