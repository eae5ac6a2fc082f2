"""reports/index.html: verdict and details of each report, links to those that exist, closed gates in the heading."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.dvc_lock import LOCK
from common.files import md5_of
from common.yaml_file import dump_yaml
from monitoring.index import index
from monitoring.report.reports_index import entries
from tests.support.examples import examples

pytestmark = pytest.mark.unit

GATES = ("validation", "inspection/training", "inspection/tensors", "inspection/online")
WARNING = {"rule": "view <missing> too often", "severity": "warning"}
NAMES = st.sampled_from(["passed", "tables", "verdict", "reason", "rows", "failed", "run", "mean_auc"]) | st.text(
    max_size=2
)
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
    folder = tmp_path / "reports"
    for name in GATES:
        write(folder / f"{name}.json", report(part=[]))
        write(folder / name / "index.html", "pages")
    metrics = {"hinet": {"mean_auc": 0.78125, "cells": []}, "limit": {"mean_auc": 0.9, "cells": []}}
    write(folder / "metrics.json", json.dumps(metrics))
    write(folder / "page" / "index.html", "plots")
    drift = {"verdict": "watch", "reason": "Price moved in search.", "next_step": "Look at <price>."}
    write(folder / "drift" / "drift.json", json.dumps(drift))
    write(folder / "drift" / "index.html", "drift")
    return folder


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
    run = {"run": {"id": "0f3c", "time": "2026-01-18T03:00:00+00:00", "data": "5e1f" * 16}}
    write(flows / "online" / "check.json", json.dumps(json.loads(report(user=[CRITICAL])) | run))
    write(flows / "online" / "docs" / "index.html", "pages")
    write(
        flows / "monitor" / "drift.json",
        json.dumps({"verdict": "act", "reason": "Orders fell.", "next_step": "Go."} | run),
    )
    write(flows / "monitor" / "index.html", "drift")
    text = page(reports)
    assert "Orders fell." in text
    assert text.count("run 0f3c, 2026-01-18T03:00:00+00:00, data 5e1f5e1f5e1f") == 2
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


def test_a_flow_whose_last_run_left_no_report_shows_the_one_before_as_such(tmp_path: Path) -> None:
    """The last whole report is linked with its run, and its verdict is not that of the last run."""
    before = tmp_path / "artifacts" / "flows" / "monitor.previous"
    run = {"id": "0f3c", "time": "2026-01-17T03:00:00+00:00", "data": None}
    write(before / "drift.json", json.dumps({"verdict": "ok", "reason": "Nothing moved.", "run": run}))
    write(before / "index.html", "drift")
    (tmp_path / "artifacts" / "flows" / "monitor").mkdir()
    (tmp_path / "reports").mkdir()
    entry = {entry.title: entry for entry in entries(tmp_path / "reports")}["Monitor"]
    assert (entry.verdict, entry.small) == ("of an earlier run", "run 0f3c, 2026-01-17T03:00:00+00:00, data -")
    assert entry.details == ("then: ok", "the last run of the flow left no report", "Nothing moved.")
    assert entry.link == "../artifacts/flows/monitor.previous/index.html"


def record(reports: Path, *names: str) -> None:
    """A record of DVC in which each of these reports was made of the one before, as they lie here."""
    stages, before = {}, None
    for name in names:
        out = {"path": f"reports/{name}", "md5": md5_of(reports / name) if name.endswith(".json") else None}
        stages[name] = {"deps": [before] if before else [], "outs": [out]}
        before = out
    (reports.parent / LOCK).write_text(dump_yaml({"stages": stages}))


def test_what_the_last_run_did_not_make_is_of_an_earlier_run(reports: Path) -> None:
    """A stage that died has left half of its outputs: its report and those behind it are marked, with the reason."""
    names = (*(f"{name}.json" for name in GATES), "metrics.json", "drift")
    record(reports, *names)
    assert "Every quality gate is open" in page(reports)
    (reports / "inspection" / "online.json").write_text(report(part=[WARNING]))
    by_title = {entry.title: entry for entry in entries(reports)}
    marked = {title for title, entry in by_title.items() if entry.verdict == "of an earlier run"}
    assert marked == {"Online store", "Metrics", "Drift"}
    assert by_title["Drift"].details[:2] == ("then: watch", "reports/inspection/online.json is not the recorded one")
    assert "Some reports are of an earlier run" in page(reports)


def test_a_gate_that_closed_is_of_the_last_run(reports: Path) -> None:
    """Its stage failed, so DVC has no record of the report; those behind it are of an earlier run."""
    record(reports, *(f"{name}.json" for name in GATES), "metrics.json", "drift")
    (reports / "inspection" / "tensors.json").write_text(report(part=[CRITICAL]))
    verdicts = {entry.title: entry.verdict for entry in entries(reports)}
    assert verdicts["Tensors"] == "gate closed"
    assert verdicts["Training set"] == "open"
    assert verdicts["Online store"] == verdicts["Metrics"] == "of an earlier run"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["ok", "critical"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def leave(root: Path, content: bytes) -> Path:
    """A project in which every report is `content`; its folder of reports."""
    for name in (*(f"reports/{gate}.json" for gate in GATES), "reports/drift/drift.json", "reports/metrics.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "artifacts/flows/monitor").mkdir(parents=True)
    (root / "artifacts/flows/monitor/drift.json").write_bytes(content)
    return root / "reports"


@settings(max_examples=examples(100))
@given(st.binary(max_size=60) | st.sampled_from([b"null", b"[]", b"{}", b'{"passed": true', b'{"verdict": "ok"']))
def test_half_a_report_is_missing(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a killed process left: the page is written, without a verdict of it."""
    text = page(leave(tmp_path_factory.mktemp("root"), content))
    assert text.count(">missing<") >= 6


@settings(max_examples=examples(100))
@given(st.dictionaries(NAMES, ANYTHING, max_size=5))
def test_a_report_of_another_shape_is_missing(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    """Whatever another version wrote under the names that are read: the page is written, and no gate is open by it."""
    reports = leave(tmp_path_factory.mktemp("root"), json.dumps(document).encode())
    index(reports=reports)
    whole = document.get("passed") is True and isinstance(document.get("tables"), dict)
    assert whole or not any(entry.verdict.startswith("open") for entry in entries(reports))
