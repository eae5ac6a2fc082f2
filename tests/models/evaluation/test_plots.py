"""The plots of dvc.yaml: their rows, their templates in .dvc/plots, and one page that opens without a network."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vl_convert
from dvc_render.vega import VegaRenderer

from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml
from models.evaluation import plot_files, plots
from models.evaluation.predict import mean_gates
from models.evaluation.report import measure
from tests.support.evaluation import CURVES, SCHEMA, SETTINGS, encoded_rows, small_hinet

pytestmark = pytest.mark.integration
PLOTS = read_yaml(ROOT / "dvc.yaml")["plots"]
SHOWN = {Path(name).name: shown for plot in PLOTS for name, shown in plot.items() if name.startswith("reports/")}
LIVE = [shown for plot in PLOTS for name, shown in plot.items() if not name.startswith("reports/")]


@pytest.fixture(scope="module")
def plot_rows(tmp_path_factory):
    """A folder with the rows of every plot, of a small HiNet and another model."""
    folder = tmp_path_factory.mktemp("project") / "reports" / "plots"
    test, truth = encoded_rows(count=3000)
    known = {"hinet": truth, "shared_bottom": truth**2}
    report = {name: measure(array, test, SCHEMA, SETTINGS) for name, array in known.items()}
    curves = {"hinet": CURVES, "shared_bottom": CURVES}
    means = mean_gates(small_hinet(), test, "hinet")
    plots.write_rows(folder / "auc.json", plots.auc_by_cell({**report, "limit": report["hinet"]}))
    plots.write_rows(folder / "learning.json", plots.learning_curves(curves))
    plots.write_rows(folder / "cells.json", plots.learning_curves_by_cell(curves, SCHEMA))
    reliability = [row for name, array in known.items() for row in plots.reliability(name, array, test, SCHEMA, bins=5)]
    plots.write_rows(folder / "reliability.json", reliability)
    plots.write_rows(folder / "attention.json", plots.attention("hinet", small_hinet().attention().numpy(), SCHEMA))
    plots.write_rows(folder / "gates.json", plots.gates("hinet", means, SCHEMA, 2))
    return folder


@pytest.mark.parametrize("name", SHOWN)
def test_every_plot_of_dvc_is_drawn_from_its_rows(plot_rows, name):
    """Its template exists, is filled completely, has a title, and Vega-Lite draws every panel with its name."""
    shown, datapoints = SHOWN[name], json.loads((plot_rows / name).read_text())
    for row in datapoints:
        row["rev"] = "workspace"
    shown = {"x_label": shown["x"], "y_label": shown["y"], **shown}
    filled = VegaRenderer(datapoints, name, template_dir=str(ROOT / ".dvc" / "plots"), **shown).get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(filled)
    drawn = vl_convert.vegalite_to_svg(filled)
    assert shown["title"] in drawn.replace("&#x27;", "'").replace("&#39;", "'")
    for panel in {panel_of(name, row) for row in datapoints}:
        assert panel in drawn


def panel_of(name, row):
    """The title of the panel of a row."""
    if "panel" in row:
        return f"{row['model']}: {row['panel']}"
    return row["task"] if name == "auc.json" else f"{row['scenario']}: {row['task']}" if "task" in row else row["model"]


def test_dvc_and_evaluate_know_the_same_plots():
    """Every file that is written is shown, and every file that is shown is written."""
    written = set(re.findall(r'"(\w+\.json)"', Path(plot_files.__file__).read_text()))
    assert written == set(SHOWN)


def test_attention_leaves_out_the_scenario_itself(plot_rows):
    """Rows of the matrix sum to 1 over the others; the diagonal is null, so that its square stays blank."""
    rows = json.loads((plot_rows / "attention.json").read_text())
    assert all((row["weight"] is None) == (row["scenario"] == row["of"]) for row in rows)
    for scenario in SCHEMA.scenarios:
        assert sum(row["weight"] or 0 for row in rows if row["scenario"] == scenario) == pytest.approx(1, abs=1e-5)


def test_gates_are_named_by_layer_and_expert(plot_rows):
    """A panel for the shared expert, the own one and each task; the weights of a scenario sum to 1 in each."""
    rows = json.loads((plot_rows / "gates.json").read_text())
    panels = {row["panel"]: [] for row in rows}
    assert list(panels) == ["shared expert", "the scenario's own expert", "task click", "task order"]
    task = [row["of"] for row in rows if row["panel"] == "task click" and row["scenario"] == "feed"]
    assert task == ["own 1", "own 2", "shared 1"]
    for panel in panels:
        weights = [row["weight"] for row in rows if row["panel"] == panel and row["scenario"] == "search"]
        assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_own_expert_is_that_of_the_rows_scenario():
    """Of the gates [M rows' scenario, M experts, K] the diagonal is shown."""
    means = {"scenarios": np.arange(18.0).reshape(3, 3, 2), "shared": np.ones((3, 2)), "tasks": np.ones((3, 2, 3))}
    rows = plots.gates("hinet", means, SCHEMA, 2)
    weights = [row["weight"] for row in rows if row["panel"].startswith("the scenario")]
    assert weights == [0, 1, 8, 9, 16, 17]


def test_without_hierarchy_only_the_tasks_have_gates():
    """A HiNet without its scenario layer has the gates of its tasks."""
    panels = {row["panel"] for row in plots.gates("hinet", {"tasks": np.ones((3, 2, 3))}, SCHEMA, 2)}
    assert panels == {"task click", "task order"}


def test_no_rows_are_an_empty_list(tmp_path):
    """DVC leaves such a plot out."""
    plots.write_rows(tmp_path / "attention.json", [])
    assert json.loads((tmp_path / "attention.json").read_text()) == []


def test_dvc_makes_one_page_that_loads_nothing(plot_rows):
    """`dvc plots show` with our settings: every plot on one page, no script, style or image from elsewhere."""
    project = plot_rows.parents[1]
    write_live_curves(project)
    (project / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", project / ".dvc")
    shutil.copytree(ROOT / ".dvc" / "plots", project / ".dvc" / "plots")
    (project / "dvc.yaml").write_text(dump_yaml({"plots": PLOTS}), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "plots", "show"], cwd=project, check=True, capture_output=True)
    made = (project / "reports" / "page" / "index.html").read_text()
    assert made.count("vegaEmbed('#") == len(PLOTS)
    drawn = [vl_convert.vegalite_to_svg(json.loads(plot)) for plot in re.findall(r"var spec = (\{.*\});", made)]
    for shown in LIVE:
        (curves,) = (plot for plot in drawn if f">{shown['title']}<" in plot)
        assert ">hinet<" in curves
        assert ">shared_bottom<" in curves
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", re.sub(r"(?s)<script>.*?</script>", "", made))
    assert not [tag for tag in tags if re.search(r"src=|href=", tag)]
    assert "cdn.jsdelivr.net" not in made
    assert "<DVC_METRIC" not in made


def write_live_curves(project):
    """Write two rows of every curve that is shown while a network is trained."""
    for name, column in (curve for shown in LIVE for curve in shown["y"].items()):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"step\t{column}\n1\t0.7\n2\t0.6\n")
