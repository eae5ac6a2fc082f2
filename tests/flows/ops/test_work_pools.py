"""The templates of the work pools: what Prefect's workers make of them, without Docker and without a cluster."""

import json
from typing import Any
from uuid import uuid4

import kubernetes_validate
import pytest
from prefect.server.schemas.actions import DeploymentCreate, WorkPoolCreate
from prefect.utilities.schema_tools import validate

from common.paths import ROOT
from common.yaml_file import read_yaml
from tests.support.work_pools import POOLS, job, template

pytestmark = pytest.mark.unit
KUBERNETES = ("1.28.0", "1.37.0")  # both ends of what clusters run
FOLDER = "/srv/hinet"


@pytest.mark.parametrize("kind", POOLS)
def test_the_server_accepts_the_template_and_its_defaults(kind: str) -> None:
    """Every variable is used and described, and has a default that fits; a number has bounds."""
    pool = WorkPoolCreate(name="hinet", type=kind, base_job_template=template(kind))
    variables = pool.base_job_template["variables"]
    used = json.dumps(pool.base_job_template["job_configuration"])
    for name, variable in variables["properties"].items():
        assert f"{{{{ {name} }}}}" in used
        assert variable["title"]
        assert variable["description"]
        assert variable.get("type") != "integer" or {"minimum", "maximum"} <= set(variable)
    defaults = {name: variable["default"] for name, variable in variables["properties"].items()}
    validate(defaults, variables, raise_on_error=True)


@pytest.mark.parametrize(
    ("kind", "variables", "sentence"),
    [
        ("docker", {"mem_limit": "plenty"}, "'mem_limit'.* 'plenty' does not match"),
        ("docker", {"user": "root"}, "'user'.* 'root' does not match"),
        ("kubernetes", {"user": 0}, "'user'.* 0 is less than the minimum of 1"),
        ("kubernetes", {"memory": "6g"}, "'memory'.* '6g' does not match"),
        ("kubernetes", {"env": ""}, "'env'.* '' is not of type 'object'"),
    ],
)
def test_a_wrong_job_variable_is_refused(kind: str, variables: dict[str, Any], sentence: str) -> None:
    """The server checks a deployment against the template of its pool, and names field and rule."""
    deployment = DeploymentCreate(name="nightly", flow_id=uuid4(), job_variables=variables)
    with pytest.raises(Exception, match=sentence):
        deployment.check_valid_configuration(template(kind))


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("kind", ["kubernetes", "clone"])
def test_kubernetes_accepts_the_job_of_a_run(kind: str, version: str) -> None:
    """The worker's job is valid by the schema of Kubernetes; one with a port as text would not be."""
    manifest = job(kind, env={"HINET_REDIS": "redis:6379"}).job_manifest
    kubernetes_validate.validate(manifest, version, strict=True)
    manifest["spec"]["backoffLimit"] = "none"
    with pytest.raises(kubernetes_validate.ValidationError, match="'none' is not of type 'integer'"):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_pod_runs_the_flow_in_the_project_as_a_plain_user() -> None:
    """Files are read-only but for the project, /tmp and shared memory; variables and secret reach the run."""
    pod = job("kubernetes", env={"HINET_REDIS": "redis:6379"}, user=1234).job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert container["workingDir"] == FOLDER
    assert {"name": "HINET_REDIS", "value": "redis:6379"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "hinet", "optional": True}}]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {FOLDER, "/tmp", "/dev/shm"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (1234, 1234)


def test_a_pod_of_the_other_template_runs_the_flow_in_a_fresh_clone() -> None:
    """The script brings the project into an empty folder; state and script are mounted, its variables are set."""
    pod = job("clone").job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["/opt/hinet/in-clone.sh"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounted[FOLDER]["emptyDir"] == {}
    assert mounted["/state"]["persistentVolumeClaim"] == {"claimName": "hinet-state"}
    assert mounted["/opt/hinet"]["configMap"]["defaultMode"] == 0o555
    assert container["envFrom"][:2] == [{"configMapRef": {"name": name}} for name in ("hinet", "hinet-project")]


def test_a_container_runs_the_flow_in_the_project_as_a_plain_user() -> None:
    """The project's folder of the worker's machine is mounted; the container has no privileges."""
    made = job("docker", env={"HINET_REDIS": "redis:6379"}, project="/data/hinet", user="1234:1234")
    assert made.volumes == [f"/data/hinet:{FOLDER}"]
    assert made.env["HINET_REDIS"] == "redis:6379"
    assert made.container_create_kwargs["user"] == "1234:1234"
    assert made.container_create_kwargs["working_dir"] == FOLDER
    assert made.container_create_kwargs["cap_drop"] == ["ALL"]
    assert not made.privileged


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_claim_is_that_of_the_template(version: str) -> None:
    """It is valid by the schema of Kubernetes, and has the name that the pod asks for."""
    claim = read_yaml(ROOT / "deploy" / "project-claim.yaml")
    kubernetes_validate.validate(claim, version, strict=True)
    assert claim["metadata"]["name"] == template("kubernetes")["variables"]["properties"]["claim"]["default"]


def test_the_image_has_the_project_where_the_templates_mount_it() -> None:
    """The Dockerfile of the pipeline: the same folder, and no root."""
    lines = (ROOT / "deploy" / "pipeline.Dockerfile").read_text().splitlines()
    assert f"WORKDIR {FOLDER}" in lines
    assert lines[-1] == "USER 1000:1000"
    for kind in POOLS:
        assert template(kind)["variables"]["properties"]["image"]["default"] == "hinet-pipeline"
