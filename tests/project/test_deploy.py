"""The files of deploy/ match the service: every metric of a panel or an alert is one that it exposes."""

import inspect
import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from common.paths import ROOT
from common.yaml_file import read_yaml
from serving.bento.source import CONSUMER
from serving.consume import consume
from serving.shadow.comparison import ShadowMetrics
from serving.telemetry.event_metrics import EventMetrics
from serving.telemetry.prometheus import ServiceMetrics

pytestmark = pytest.mark.unit
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
ALERTS = read_yaml(DEPLOY / "alerts.yml")
COMPOSE = read_yaml(DEPLOY / "compose.serving.yaml")


def exposed() -> dict[str, set[str]]:
    """The names of the service's samples, with their labels."""
    names: dict[str, set[str]] = {}
    registries = (ServiceMetrics(["feed"]).registry, ShadowMetrics().registry, EventMetrics().registry)
    for metric in (metric for registry in registries for metric in registry._collector_to_names):
        kind, name, labels = metric._type, metric._name, set(metric._labelnames)
        endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[kind]
        names |= {name + ending: labels | ({"le"} if ending == "_bucket" else set()) for ending in endings}
    return names


def queries() -> list[str]:
    """Every expression of the dashboard and of the alerts."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    variables = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"]]
    return panels + variables + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def test_every_queried_metric_is_exposed_and_every_exposed_one_is_queried() -> None:
    """Queries use the names of samples; each metric of the service has a panel or an alert."""
    queried = {name for query in queries() for name in re.findall(r"\bhinet_\w+", query)}
    assert queried <= set(exposed()), queried - set(exposed())
    families = {re.sub("_(total|bucket|sum|count)$", "", name) for name in queried}
    measured = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exposed()}
    assert measured == families


def test_every_queried_label_is_one_of_its_metric() -> None:
    """In a selector: metric{label="value"}."""
    for query in queries():
        for name, selector in re.findall(r"\b(hinet_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= exposed()[name], query


def test_panels_do_not_overlap() -> None:
    """No panel is wider than the page; each has a title, an id, and the provisioned data source."""
    source = read_yaml(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert panel["title"]
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == source["datasources"][0]["uid"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_compose_mounts_existing_files_and_opens_ports_of_this_machine_only() -> None:
    """Every mounted file exists in the project or is made by a run; every port is of 127.0.0.1."""
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), volume
            elif not source.startswith("../artifacts/"):
                assert source in COMPOSE["volumes"]
    for job in read_yaml(DEPLOY / "prometheus.yml")["scrape_configs"]:
        targets: Any = job["static_configs"]
        assert targets[0]["targets"][0].split(":")[0] in COMPOSE["services"]


def test_the_ranking_service_runs_with_the_fewest_rights() -> None:
    """It writes to /tmp only, has no capability, and is unhealthy while it is not ready."""
    ranking = COMPOSE["services"]["ranking"]
    assert ranking["build"] == {"context": "../artifacts/bento", "dockerfile": "env/docker/Dockerfile"}
    assert (ranking["read_only"], ranking["tmpfs"]) == (True, ["/tmp"])
    assert (ranking["cap_drop"], ranking["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert "/readyz" in ranking["healthcheck"]["test"][-1]
    assert all(volume.endswith(":ro") for volume in ranking["volumes"])


def test_the_consumer_of_events_runs_as_the_service_does() -> None:
    """The same image with the same rights, on the same Redis; its port is that which Prometheus reads."""
    ranking, events = COMPOSE["services"]["ranking"], COMPOSE["services"]["events"]
    for name in ("build", "read_only", "tmpfs", "cap_drop", "security_opt"):
        assert events[name] == ranking[name], name
    for name in ("HINET_REDIS", "HINET_EVENTS"):
        assert events["environment"][name] == ranking["environment"][name], name
    assert events["command"][:3] == ["python", "-m", CONSUMER]
    targets = read_yaml(DEPLOY / "prometheus.yml")["scrape_configs"][1]["static_configs"][0]["targets"]
    assert targets == [f"events:{inspect.signature(consume).parameters['port'].default}"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_configuration_of_prometheus_is_valid() -> None:
    """`promtool check config` accepts it, with the alerts and their expressions."""
    done = subprocess.run(["promtool", "check", "config", DEPLOY / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
