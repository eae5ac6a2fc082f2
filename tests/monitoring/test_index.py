"""reports/index.html: verdict and details of each report, links to those that exist, closed gates in the heading."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from monitoring.index import index
from monitoring.report.reports_index import entries

pytestmark = pytest.mark.unit

GATES = ("validation", "inspection/training", "inspection/tensors", "inspection/online")
WARNING = {"rule": "view <missing> too often", "severity": "warning"}
CRITICAL = {"rule": "lost events", "severity": "critical"}


def write(path: Path, text: str) -> None:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def report(**tables: list[dict[str, Any]]) -> str:
    """A report with these tables and what failed in each."""
    described = {name: {"rows": 1200, "failed": failed} for name, failed in tables.items()}
    passed = not any(fault["severity"] == "critical" for failed in tables.values() for fault in failed)
    return json.dumps({"passed": passed, "tables": described})


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """The reports of a run in which everything passed."""
    for name in GATES:
        write(tmp_path / f"{name}.json", report(part=[]))
        write(tmp_path / name / "index.html", "pages")
    metrics = {"hinet": {"mean_auc": 0.78125, "cells": []}, "limit": {"mean_auc": 0.9, "cells": []}}
    write(tmp_path / "metrics.json", json.dumps(metrics))
    write(tmp_path / "page" / "index.html", "plots")
    drift = {"verdict": "watch", "reason": "Price moved in search.", "next_step": "Look at <price>."}
    write(tmp_path / "drift" / "drift.json", json.dumps(drift))
    write(tmp_path / "drift" / "index.html", "drift")
    return tmp_path


def page(reports: Path) -> str:
    """The page over `reports`."""
    index(reports=reports)
    return (reports / "index.html").read_text()


def test_every_report_is_linked_with_its_verdict(reports: Path) -> None:
    """Seven links to existing files; verdicts, rows, reason and next step of the drift report, means of the models."""
    text = page(reports)
    links = re.findall(r'href="([^"]+)"', text)
    assert links == [*(f"{name}/index.html" for name in GATES), "drift/index.html", "page/index.html", "metrics.json"]
    assert all((reports / link).is_file() for link in links)
    for words in (
        "Every quality gate is open",
        "part 1,200",
        "watch",
        "Price moved in search.",
        "AUC 0.7812",
        "best possible",
    ):
        assert words in text


def test_the_page_needs_no_network_and_no_script(reports: Path) -> None:
    """One file, light and dark; text of the data is escaped."""
    write(reports / "inspection/training.json", report(train=[WARNING]))
    text = page(reports)
    assert not re.search(r"://|<script|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "view &lt;missing&gt; too often" in text
    assert "Look at &lt;price&gt;." in text


def test_a_closed_gate_is_in_the_heading(reports: Path) -> None:
    """The heading names the gate, its line the rule; a gate with warnings only is open."""
    write(reports / "inspection/training.json", report(train=[WARNING], together=[CRITICAL]))
    write(reports / "inspection/tensors.json", report(train=[WARNING]))
    by_title = {entry.title: entry for entry in entries(reports)}
    assert [by_title[name].verdict for name in ("Training set", "Tensors")] == ["gate closed", "open, with warnings"]
    assert "critical: together, lost events" in by_title["Training set"].details
    assert re.search(r"A quality gate is closed</h1>\s*<p>Training set:", page(reports))


def test_results_of_flows_follow_those_of_the_last_run(tmp_path: Path) -> None:
    """The store in use after its refresh and the monitored days, each with a link; no entry without flows."""
    flows, reports = tmp_path / "artifacts" / "flows", tmp_path / "reports"
    reports.mkdir()
    assert "in use" not in page(reports)
    write(flows / "online" / "check.json", report(user=[CRITICAL]))
    write(flows / "online" / "docs" / "index.html", "pages")
    write(
        flows / "monitor" / "drift.json", json.dumps({"verdict": "act", "reason": "Orders fell.", "next_step": "Go."})
    )
    write(flows / "monitor" / "index.html", "drift")
    text = page(reports)
    assert "Orders fell." in text
    assert "A quality gate is closed</h1>" in text
    links = re.findall(r'href="([^"]+)"', text)
    assert links == ["../artifacts/flows/online/docs/index.html", "../artifacts/flows/monitor/index.html"]
    assert all((reports / link).is_file() for link in links)


def test_a_report_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    """Before the first run the page has no links; it names the command that makes each report."""
    text = page(tmp_path)
    assert "href" not in text
    assert text.count(">missing<") == 7
    assert "A quality gate was not reached" in text
    assert "made by: make plots" in text
