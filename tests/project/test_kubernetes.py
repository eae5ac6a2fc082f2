"""deploy/kubernetes: what Kustomize makes of it is valid, has few rights, and fits the service and the pipeline."""

import inspect
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cyclopts import App
from prefect_kubernetes import diagnostics, observer, worker
from prefect_kubernetes.settings import KubernetesSettings

from common.paths import ITEM_SNAPSHOT, ROOT
from common.settings import Settings, read_settings, variable
from common.yaml_file import read_yaml
from serving.bento import image
from serving.bento.source import CONSUMER
from serving.consume import consume
from serving.http.middleware import PROBES, READY
from tests.support.manifests import (
    KUBERNETES,
    OVERLAYS,
    containers,
    every_pod,
    of_key,
    of_kind,
    open_ports,
    pods,
    rendered,
)
from tests.support.work_pools import job

VERSIONS = ("1.28.0", "1.37.0")  # both ends of what clusters run
PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"
pytestmark = pytest.mark.integration


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_accepts_every_object(overlay: str, version: str) -> None:
    """By its own schema, without unknown fields; all lie in the namespace of the project."""
    for one in rendered(overlay):
        kubernetes_validate.validate(one, version, strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "hinet"


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_is_valid_before_it_is_rendered(path: Path) -> None:
    """Each object by the schema of Kubernetes, without kubectl; what a Kustomization names is there."""
    for one in yaml.safe_load_all(path.read_text()):
        if one["kind"] != "Kustomization":
            kubernetes_validate.validate(one, VERSIONS[0], strict=True)
            continue
        files = [file for generated in one.get("configMapGenerator", []) for file in generated.get("files", [])]
        assert all((path.parent / name).exists() for name in [*one["resources"], *files])


def test_a_wrong_field_would_be_refused() -> None:
    """The validation that the tests rely on finds a port as text, and a misspelt field."""
    (ranking,) = (one for one in rendered("overlays/single") if one["kind"] == "Deployment" and "ranking" in str(one))
    text = yaml.safe_dump(ranking)
    for wrong in (text.replace("3000", "'3000'"), text.replace("startupProbe", "startProbe")):
        assert wrong != text
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(yaml.safe_load(wrong), VERSIONS[0], strict=True)


def test_every_container_has_the_fewest_rights() -> None:
    """No root, read-only files, no capability, the filter of system calls; requests, and a limit of the memory."""
    for overlay, name, pod in every_pod():
        rights = pod["spec"]["securityContext"]
        assert rights["runAsNonRoot"], (overlay, name)
        assert rights["runAsUser"] > 0, (overlay, name)
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}, (overlay, name)
        assert pod["spec"].get("automountServiceAccountToken") is False or name == "prefect-worker"
        for container in containers(pod):
            expected = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["securityContext"] == expected, (overlay, name)
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), (overlay, name)
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


@pytest.mark.parametrize("overlay", OVERLAYS[:2])
def test_every_server_has_three_probes(overlay: str) -> None:
    """By a command, or at a port that the container names."""
    for name, one in of_kind(overlay, "Deployment", "StatefulSet").items():
        for container in one["spec"]["template"]["spec"]["containers"]:
            for probe in (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")):
                ports = {port["name"] for port in container["ports"]}
                assert "exec" in probe or probe["httpGet"]["port"] in ports, name


def test_the_probes_of_the_service_are_its_own() -> None:
    """It is started and ready as it says so, and alive without a model."""
    (container,) = of_kind("overlays/single", "Deployment")["ranking"]["spec"]["template"]["spec"]["containers"]
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert (paths["startup"], paths["readiness"]) == (READY, READY)
    assert paths["liveness"] in PROBES - {READY}
    assert container["ports"][0]["containerPort"] == 3000  # of BentoML


@pytest.mark.parametrize("deployment", ["ranking", "events"])
@pytest.mark.parametrize("overlay", OVERLAYS[:2])
def test_every_variable_is_one_of_the_project(overlay: str, deployment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every HINET_ variable of service and consumer is known, and has a value that it takes."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
    read = of_kind(overlay, "ConfigMap")["hinet"]["data"]
    container = of_kind(overlay, "Deployment")[deployment]["spec"]["template"]["spec"]["containers"][0]
    assert {"configMapRef": {"name": "hinet"}} in container["envFrom"]
    values = {one["name"]: one["value"] for one in container["env"] if one["name"] != "PYTHONPATH"} | read
    assert set(values) <= {variable(field) for field in Settings.model_fields}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    hosts = re.findall(r"([\w.-]+):6379", str(settings.redis))
    services = of_kind(overlay, "Service")
    assert hosts
    assert {host.split(".")[-1] for host in hosts} <= set(services)


@pytest.mark.parametrize("overlay", OVERLAYS[:2])
def test_one_consumer_applies_the_events(overlay: str) -> None:
    """One pod that no other overlaps, of the service's image; its command is one that the bento has, and takes."""
    deployments = of_kind(overlay, "Deployment")
    spec = deployments["events"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert not [one for one in of_kind(overlay, "HorizontalPodAutoscaler").values() if "events" in str(one)]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == deployments["ranking"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert container["args"][:3] == ["python", "-m", CONSUMER]
    command, bound, _ = App(default_command=consume).parse_args(container["args"][3:], exit_on_error=False)
    assert (command, bound.kwargs) == (consume, {"host": "0.0.0.0", "stay": True})
    port = inspect.signature(consume).parameters["port"].default
    assert [one["containerPort"] for one in container["ports"]] == [port]
    assert {one["name"]: one["value"] for one in container["env"]}["PYTHONPATH"] == f"{image.HOME}/bento/src"


@pytest.mark.parametrize("overlay", OVERLAYS[:2])
def test_service_and_consumer_reach_the_redis(overlay: str) -> None:
    """The policy of each lets it out, and that of the Redis lets it in."""
    policies = of_kind(overlay, "NetworkPolicy")
    (allowed,) = of_key(policies["redis"]["spec"]["ingress"], "values")
    for name in ("ranking", "events"):
        (rule,) = policies[name]["spec"]["egress"]
        assert of_key(rule, "matchLabels") == [{"app.kubernetes.io/name": "redis"}]
        assert rule["ports"] == [{"port": 6379}]
        assert name in allowed


def test_the_settings_of_the_worker_are_those_of_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """It watches its own namespace only: its role ends there."""
    worker = of_kind("overlays/single", "Deployment")["prefect-worker"]["spec"]["template"]["spec"]["containers"][0]
    for one in worker["env"]:
        monkeypatch.setenv(one["name"], one["value"])
    assert KubernetesSettings().observer.namespaces == {"hinet"}


def test_the_images_are_those_of_the_compose_files() -> None:
    """Of one version each, and ours under the names of the pages."""
    compose = [read_yaml(ROOT / "deploy" / name) for name in ("compose.yaml", "compose.serving.yaml")]
    known = {service["image"] for one in compose for service in one["services"].values() if "image" in service}
    known |= {f"{one}-kubernetes" for one in known if "prefect" in one}
    ours = {f"registry.example.com/{name}:1" for name in ("hinet", "hinet-pipeline")} | {"hinet-pipeline"}
    used = {container["image"] for _, _, pod in every_pod() for container in containers(pod)}
    assert used <= known | ours
    assert ours <= used


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_named_object_exists(overlay: str) -> None:
    """Config maps, claims and accounts of the pods are there, and the page makes each secret that must be."""
    both = rendered(overlay) + (rendered("overlays/team") if overlay == "training" else [])
    there = {(one["kind"], one["metadata"]["name"]) for one in both}
    for name, pod in pods(overlay):
        for kind, key in (
            ("ConfigMap", "configMapRef"),
            ("ConfigMap", "configMap"),
            ("PersistentVolumeClaim", "persistentVolumeClaim"),
        ):
            for named in of_key(pod, key):
                assert (kind, named.get("name") or named.get("claimName")) in there, name
        for named in [*of_key(pod, "secretKeyRef"), *of_key(pod, "secretRef")]:
            assert named.get("optional") or f"create secret generic {named['name']} " in PAGE.read_text()
        assert pod["spec"].get("serviceAccountName", "default") in {"default", *of_kind(overlay, "ServiceAccount")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_selects(overlay: str) -> None:
    """Services, budgets and policies select pods, services and policies by ports that these have."""
    made = [pod for _, pod in pods(overlay)] + [job("clone").job_manifest["spec"]["template"]]
    for one in rendered(overlay):
        spec, name = one.get("spec", {}), one["metadata"]["name"]
        labels = (
            spec.get("selector")
            if one["kind"] == "Service"
            else (spec.get("podSelector") or spec.get("selector", {})).get("matchLabels")
        )
        if one["kind"] not in {"Service", "PodDisruptionBudget", "NetworkPolicy"} or not labels:
            continue
        selected = [pod for pod in made if labels.items() <= pod["metadata"]["labels"].items()]
        assert selected, name
        ports = {port for pod in selected for container in containers(pod) for port in open_ports(container)}
        rules = spec["ports"] if one["kind"] == "Service" else of_key(spec.get("ingress", []), "ports")
        for port in rules if one["kind"] == "Service" else [port for rule in rules for port in rule]:
            assert port.get("targetPort", port["port"]) in ports, name


def test_the_first_snapshot_is_that_of_the_image() -> None:
    """The initial container copies the file that the bento has."""
    (first,) = of_kind("overlays/single", "Deployment")["ranking"]["spec"]["template"]["spec"]["initContainers"]
    assert f"{image.HOME}/bento/src/{ITEM_SNAPSHOT}" in first["args"][0]


def test_the_training_is_that_of_the_stage() -> None:
    """The command of dvc.yaml after torchrun instead of Python, on as many nodes as pods; DVC records its output."""
    spec = of_kind("training", "Job")["training"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    script = container["args"][0]
    assert read_yaml(ROOT / "dvc.yaml")["stages"]["train"]["do"]["cmd"].startswith("python -m models.train ")
    assert script.rindex("${stage#python }") > script.index("--rdzv-endpoint training-0.training:29400")
    assert "dvc commit --force train@hinet_plus" in script
    nodes = {one["name"]: one.get("value") for one in container["env"]}["NODES"]
    assert int(nodes) == spec["completions"] == spec["parallelism"]


def test_the_worker_may_do_what_prefect_does_there() -> None:
    """Its role has every call of the installed worker, but for those of secrets, which it is not set to make."""
    verbs = {"read": "get", "list": "list", "create": "create", "delete": "delete", "patch": "patch"}
    resources = {"job": "jobs", "pod": "pods", "pod_log": "pods/log"}
    rules = of_kind("overlays/single", "Role")["prefect-worker"]["rules"]
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    source = "".join(Path(module.__file__).read_text() for module in (worker, observer, diagnostics))
    calls = set(re.findall(r"\.(\w+?)_namespaced_(\w+)\(", source))
    needed = {(resources[what], verbs[verb]) for verb, what in calls if what != "secret"}
    assert ("jobs", "create") in needed
    assert needed | {("pods", "watch"), ("jobs", "watch")} <= allowed
