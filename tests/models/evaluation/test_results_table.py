"""The table of results on the terminal, and the next commands."""

import json

import pytest

from common.errors import PipelineError
from models.evaluation import results_table

pytestmark = pytest.mark.unit


def cell(scenario, task, auc, half=0.01):
    """One cell of a report."""
    bounds = (None, None) if auc is None or half is None else (auc - half, auc + half)
    return {"scenario": scenario, "task": task, "auc": auc, "auc_low": bounds[0], "auc_high": bounds[1], "rows": 12345}


REPORT = {
    "hinet": {"cells": [cell("feed", "click", 0.7123), cell("feed", "order", None)], "mean_auc": 0.7123},
    "shared_bottom": {"cells": [cell("feed", "click", 0.7001), cell("feed", "order", None)], "mean_auc": 0.7001},
    "limit": {"cells": [cell("feed", "click", 0.75), cell("feed", "order", None)], "mean_auc": 0.75},
}


def test_a_cell_of_another_kind_shows_its_own_metric(capsys):
    """Accuracy and HR@1 are named in the column of the task, each with its interval; the mean is named mean."""
    classes = {
        "scenario": "commute",
        "task": "when",
        "metric": "accuracy",
        "rows": 10,
        "accuracy": 0.7,
        "accuracy_low": 0.6,
        "accuracy_high": 0.8,
    }
    choice = {
        "scenario": "commute",
        "task": "where",
        "metric": "hr1",
        "rows": 50,
        "hr1": 0.5,
        "hr1_low": 0.4,
        "hr1_high": 0.6,
    }
    results_table.show_metrics({"hinet": {"cells": [cell("commute", "click", 0.8), classes, choice], "mean": 0.6667}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0][:6] == ["AUC", "or", "HR@1", "or", "accuracy", "on"]
    assert ["commute", "when,", "accuracy", "10", "0.7000", "±0.1000"] in lines
    assert ["commute", "where,", "HR@1", "50", "0.5000", "±0.1000"] in lines
    assert lines[-1] == ["mean", "0.6667"]


def test_the_table_has_every_cell_and_the_mean(capsys, monkeypatch):
    """A line per cell with half its interval, a dash where there is no AUC, the means last."""
    monkeypatch.setenv("COLUMNS", "20")
    results_table.show_metrics(REPORT)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["feed", "click", "12,345", "0.7123", "±0.0100", "0.7001", "±0.0100", "0.7500"] in lines
    assert ["feed", "order", "12,345", "-", "-", "-"] in lines
    assert lines[-1] == ["mean", "0.7123", "0.7001", "0.7500"]


def test_weighted_means_stand_above_the_others(capsys):
    """Where rows have a weight; a model without one has a dash."""
    results_table.show_metrics({**REPORT, "hinet": {**REPORT["hinet"], "weighted_mean": 0.75}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["weighted", "mean", "0.7500", "-", "-"] in lines
    assert lines[-1][0] == "mean"


def test_the_best_model_is_bold():
    """The best possible is no model."""
    columns = {column.header: list(column.cells) for column in results_table.auc_table(REPORT).columns}
    assert columns["hinet"][0].startswith("[bold]0.7123")
    assert "bold" not in columns["shared_bottom"][0] + columns["best possible"][0]


def test_show_prints_the_paths_of_the_reports_and_the_next_commands(tmp_path, capsys):
    """The reports by path and the next two commands."""
    (tmp_path / "metrics.json").write_text(json.dumps(REPORT))
    results_table.show(metrics=tmp_path / "metrics.json")
    printed = capsys.readouterr().out
    for expected in (
        tmp_path / "metrics.json",
        "reports/index.html",
        "reports/validation/index.html",
        "make serve",
        "make plots",
    ):
        assert str(expected) in printed


def test_without_metrics_the_error_names_the_command(tmp_path):
    """Before the first run there is a message, no traceback."""
    with pytest.raises(PipelineError, match="`dvc repro` writes it"):
        results_table.show(metrics=tmp_path / "metrics.json")
