"""What deploy/ holds fits the service: every metric that is drawn or watched is one that it exposes."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from common.paths import ROOT
from serving.shadow import worker
from serving.telemetry.prometheus import Metrics

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.serving.yaml").read_text())


def exposed() -> dict[str, set[str]]:
    """The names under which samples of the service appear, with their labels."""
    found: dict[str, set[str]] = {}
    every = (*Metrics(["feed"]).registry._collector_to_names, *worker.Metrics().registry._collector_to_names)
    for metric in every:
        kind, name, labels = metric._type, metric._name, set(metric._labelnames)
        endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[kind]
        found |= {name + ending: labels | ({"le"} if ending == "_bucket" else set()) for ending in endings}
    return found


def queries() -> list[str]:
    """Every expression of the dashboard and of the alerts."""
    drawn = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    asked = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"]]
    return drawn + asked + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def test_every_metric_that_is_asked_for_is_exposed() -> None:
    """By its whole name, and the other way round: what the service measures is drawn."""
    asked = {name for query in queries() for name in re.findall(r"\bhinet_\w+", query)}
    assert asked <= set(exposed()), asked - set(exposed())
    families = {re.sub("_(total|bucket|sum|count)$", "", name) for name in asked}
    measured = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exposed()}
    assert measured == families


def test_every_label_that_is_asked_for_is_one_of_its_metric() -> None:
    """In a selector: metric{label="value"}."""
    for query in queries():
        for name, selector in re.findall(r"\b(hinet_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= exposed()[name], query


def test_a_panel_has_a_place_of_its_own() -> None:
    """No two overlap, none is wider than the page, every one has a title and the provisioned source."""
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == source["datasources"][0]["uid"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_compose_mounts_what_is_there_and_opens_this_machine_only() -> None:
    """Files of the project that are mounted exist (but for what a run makes); ports are of 127.0.0.1."""
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), volume
            elif not source.startswith("../artifacts/"):
                assert source in COMPOSE["volumes"]
    targets: Any = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert targets[0]["targets"][0].split(":")[0] in COMPOSE["services"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_its_configuration() -> None:
    """`promtool check config`, which reads the alerts as well, and their expressions."""
    done = subprocess.run(["promtool", "check", "config", DEPLOY / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
