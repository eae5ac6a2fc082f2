"""The command models.export: programs with the numbers of the network, for whoever does not have this project."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common import params
from common.errors import ModelError
from common.paths import ROOT
from features.encoding.encoder import Encoder, Layout
from features.encoding.fitting import fit_encoder
from features.schema import inputs, to_json
from models.export import export
from models.inference.exported import (
    COMPILED,
    DESCRIPTION,
    PROGRAM,
    export_network,
    largest_difference,
    load_compiled,
    load_program,
    random_rows,
    write_export,
)
from models.model_folder import CALIBRATION, ENCODER, NETWORKS, build_network, read_model, write_model
from models.networks.calibration import Calibration
from models.training.configuration import arguments_of
from tests.support import world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()
WITHOUT_US = """
import importlib, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ImportError(name + " is ours")

sys.meta_path.insert(0, Refuse())
for name in {packages}:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise SystemExit(name + " can be imported")
import numpy, torch
rows = [torch.from_numpy(part) for part in numpy.load("rows.npz").values()]
{load}
numpy.save("logits.npy", program(*rows).detach().numpy())
"""
LOAD = {
    PROGRAM: f"program = torch.export.load('{PROGRAM}').module()",
    COMPILED: f"program = torch._inductor.aoti_load_package('{COMPILED}')",
}
PACKAGES = ["common", "features", "models", "serving", "monitoring", "release", "flows", "benchmarks", "docs", "tests"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of the smallest network: an export of HiNet takes seconds."""
    return write_folder(tmp_path_factory.mktemp("model"), "shared_bottom")


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for it."""
    out = tmp_path_factory.mktemp("exported") / "export"
    export(model=folder, out=out, compiled=False)
    return out


def write_folder(root: Path, name: str, seed: int = 0, calibration: Calibration | None = None) -> Path:
    """A model folder of the network called `name`, of the project's sizes, for the events of the tiny world."""
    pq.write_table(pa.Table.from_pandas(world.tables()["events"]), root / "train.parquet")
    encoder = fit_encoder(SCHEMA, inputs(SCHEMA, ()), root / "train.parquet", 1)
    encoder.write(root / "encoder.parquet")
    (root / "schema.json").write_text(to_json(SCHEMA))
    (root / "views.json").write_text(to_json(()))
    (root / "reference.json").write_text("{}")
    arguments = arguments_of(name, encoder.layout, SCHEMA.tasks, params.load().train)
    network = random_network(name, arguments, seed)
    files = {part: root / f"{part}.json" for part in ("schema", "views", "reference")}
    files["encoder"] = root / "encoder.parquet"
    written = {"summary": {}, "curves": [], "profile": {}, "calibration": calibration, **files}
    write_model(root / name, model_name=name, network=network, arguments=arguments, **written)
    return root / name


def random_network(name: str, arguments: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """A network whose logits differ: large weights, moving statistics that are not those of the start."""
    torch.manual_seed(seed)
    network = build_network(name, arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith(("mean", "variance")):
                buffer.uniform_(0.5, 2)
    return network


def run_without_us(folder: Path, program: str, layout: Layout, count: int) -> np.ndarray:
    """The logits of so many random rows, computed in a process that cannot import any of our packages."""
    names = ("categorical", "bags", "numeric", "scenario")
    np.savez(folder / "rows.npz", **dict(zip(names, map(np.asarray, random_rows(layout, count)), strict=True)))
    code = WITHOUT_US.format(packages=PACKAGES, load=LOAD[program])
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return np.load(folder / "logits.npy")


@pytest.mark.slow
def test_the_program_has_the_logits_of_the_network_without_our_code(folder: Path, exported: Path) -> None:
    """The file runs where none of our packages can be imported, and for another number of rows than the example."""
    model = read_model(folder)
    with torch.inference_mode():
        expected = model.network(*random_rows(model.encoder.layout, 33)).numpy()
    logits = run_without_us(exported, PROGRAM, model.encoder.layout, 33)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05


def test_the_description_names_inputs_and_outputs(folder: Path, exported: Path) -> None:
    """Types, widths and columns in the order of the program's inputs; the network, its tag and the difference."""
    description = json.loads((exported / DESCRIPTION).read_text())
    assert (exported / ENCODER).read_bytes() == (folder / ENCODER).read_bytes()
    rows = random_rows(Encoder.read(exported / ENCODER).layout, 3)
    for described, tensor in zip(description["inputs"], rows, strict=True):
        assert (described["type"], described["shape"][1:]) == (str(tensor.dtype)[6:], list(tensor.shape[1:]))
        assert len(described["columns"]) == (tensor.shape[1] if tensor.dim() == 2 else 1)
    assert description["outputs"] == ["click", "order"]
    assert (description["model"], description["tag"]) == ("shared_bottom", read_model(folder).tag)
    assert description["largest_difference"][PROGRAM] <= 1e-5
    assert (description["not_compiled"], description["calibration"]) == ("not asked for", None)


def test_the_maps_of_a_calibrated_model_are_beside_its_programs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs give the network's logits, so whoever runs them needs calibration.json; export.json names it."""
    maps = {"kind": "platt", "cells": {"feed/click": {"a": 2.0, "b": 1.0}}}
    calibration = Calibration(maps, scenarios=SCHEMA.scenarios, outputs=SCHEMA.output_names)
    calibrated = write_folder(tmp_path, "shared_bottom", calibration=calibration)
    program = torch.export.load(exported / PROGRAM)
    monkeypatch.setattr("models.inference.exported.export_network", lambda network, example: program)
    description = write_export(calibrated, tmp_path / "export", compiled=False)
    assert description["calibration"] == CALIBRATION
    assert (tmp_path / "export" / CALIBRATION).read_bytes() == (calibrated / CALIBRATION).read_bytes()


def test_a_program_that_differs_from_the_network_is_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written file is loaded and compared; where it differs, nothing is left behind."""
    other, wrong = write_folder(tmp_path, "shared_bottom", seed=1), torch.export.load(exported / PROGRAM)
    monkeypatch.setattr("models.inference.exported.export_network", lambda network, example: wrong)
    with pytest.raises(
        ModelError, match=r"network.pt2: its logits differ .* shared_bottom by .*, expected at most 1e-05"
    ):
        write_export(other, tmp_path / "export", compiled=False)
    assert not (tmp_path / "export").exists()


@pytest.mark.slow
@pytest.mark.parametrize("vectors", [(), (3, 2)], ids=["plain", "vectors"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_exported(tmp_path: Path, name: str, vectors: tuple[int, ...]) -> None:
    """With its sizes of params.yaml, tables that are shared, lists and vectors: the logits of its forward to 1e-5."""
    layout = Layout((30, 70, 5), (0, 1, 2, 2), (0, 2), (4, 2), 3 + sum(vectors), 6, vectors)
    arguments = arguments_of(name, layout, SCHEMA.tasks, params.load().train)
    network = random_network(name, arguments)
    torch.export.save(export_network(network, random_rows(layout, 3)), tmp_path / PROGRAM)
    assert largest_difference(load_program(tmp_path / PROGRAM), network, layout) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"scenario_heads": True},
        {"interactions": ["fm"]},
        {"scenario_view": [16, 8]},
        {"scenario_attention": False},
        {"hierarchy": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_option_of_hinet_can_be_exported(options: dict[str, Any]) -> None:
    """Each option by itself, for rows without lists and numbers: the logits of the forward to 1e-5."""
    layout = Layout((30, 70), (0, 1), (), (), 0, 3)
    arguments = arguments_of("hinet", layout, SCHEMA.tasks, params.load().train)
    network = random_network("hinet", {**arguments, "config": {**arguments["config"], **options}})
    assert largest_difference(export_network(network, random_rows(layout, 3)).module(), network, layout) <= 1e-5


@pytest.mark.slow
def test_both_programs_of_a_hinet_have_its_logits_without_our_code(tmp_path: Path) -> None:
    """The command with a compiler: both files run without our packages, for any number of rows."""
    folder = write_folder(tmp_path, "hinet")
    done = run_command("--model", str(folder), "--out", str(tmp_path / "export"))
    assert f"{COMPILED}: logits of hinet" in done, done
    model = read_model(folder)
    for count in (1, 333):
        with torch.inference_mode():
            expected = model.network(*random_rows(model.encoder.layout, count)).numpy()
        for program in (PROGRAM, COMPILED):
            logits = run_without_us(tmp_path / "export", program, model.encoder.layout, count)
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert (
        largest_difference(load_compiled(tmp_path / "export" / COMPILED), model.network, model.encoder.layout) <= 1e-5
    )


@pytest.mark.slow
def test_without_a_compiler_the_program_is_written_and_the_reason_named(folder: Path, tmp_path: Path) -> None:
    """No C++ compiler: network.pt2 is there, and output and export.json say why the other is not."""
    done = run_command("--model", str(folder), "--out", str(tmp_path / "export"), CXX="no-such-compiler")
    assert "not compiled with AOTInductor: " in done
    assert "no-such-compiler" in done
    description = json.loads((tmp_path / "export" / DESCRIPTION).read_text())
    assert "no-such-compiler" in description["not_compiled"]
    assert list(description["largest_difference"]) == [PROGRAM]


def run_command(*arguments: str, **environment: str) -> str:
    """The output of `python -m models.export` with these arguments."""
    command = [sys.executable, "-m", "models.export", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout
