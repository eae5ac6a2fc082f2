"""A trained network as programs of torch.export, which run where this project is not installed.

    network.pt2        the graph of the forward with its weights: torch.export.load(path).module()
    network.aoti.pt2   the same compiled by AOTInductor, for the processor that it was compiled on:
                       torch._inductor.aoti_load_package(path), or C++ without Python
    export.json        the inputs and outputs, in words that need none of our code
    encoder.parquet       what turns values into the ids and numbers of the inputs
    calibration.json   the maps of the logits, only of a calibrated model: they are not in the programs

A program reads encoded rows, any number of them from 1 on, and gives logits. All that makes training fast on a CPU and
needs Python (models/networks/cpu_kernels.py) is left out of it.
"""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from common.errors import ModelError
from common.files import replacing_folder
from features.encoding.encoder import PADDING, Encoder, Layout
from features.schema import Kind
from models.model_folder import CALIBRATION, ENCODER, Model, read_model

PROGRAM, COMPILED, DESCRIPTION = "network.pt2", "network.aoti.pt2", "export.json"
EXAMPLE_ROWS = 7  # of 0 or 1 rows an export would take the number for a constant
CHECKED_ROWS = (1, 2, 200)
TOLERANCE = 1e-5  # of a logit, between a program and the network
Rows = tuple[Tensor, Tensor, Tensor, Tensor]  # categorical, bags, numeric, scenario
Program = Callable[..., Tensor]


def write_export(folder: Path, out: Path, *, compiled: bool) -> dict[str, Any]:
    """Export the network of the model `folder` into the folder `out`; returns the content of export.json.

    With `compiled` it is compiled, too; where that is not possible `not_compiled` says why. Raises ModelError where a
    program differs from the network.
    """
    model = read_model(folder)
    program = export_network(model.network, random_rows(model.encoder.layout, EXAMPLE_ROWS))
    with replacing_folder(out) as partial:
        torch.export.save(program, partial / PROGRAM)
        programs, reason = {PROGRAM: load_program(partial / PROGRAM)}, "not asked for"
        if compiled:
            reason = compile_program(program, partial / COMPILED) or ""
        if not reason:
            programs[COMPILED] = load_compiled(partial / COMPILED)
        differences = {name: _checked(name, one, model) for name, one in programs.items()}
        for name in (ENCODER,) if model.calibration is None else (ENCODER, CALIBRATION):
            shutil.copyfile(folder / name, partial / name)
        description = _describe(model) | {"largest_difference": differences, "not_compiled": reason or None}
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    return description


def export_network(network: nn.Module, example: Rows) -> ExportedProgram:
    """The forward of a network in eval mode as a program for any number of rows; `example` has 2 rows or more."""
    rows = Dim("rows", min=1)
    with torch.no_grad():
        return torch.export.export(network, example, dynamic_shapes=({0: rows},) * 4)


def compile_program(program: ExportedProgram, path: Path) -> str | None:
    """Compile a program with AOTInductor into the file `path`; returns why it cannot be compiled here, else None.

    The compiled program uses as many threads as torch in the process that loads it.
    """
    from torch._inductor import aoti_compile_and_package  # seconds, which an export alone does not need
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    try:
        get_cpp_compiler()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # torch 2.13 of itself
            aoti_compile_and_package(program, package_path=str(path), inductor_configs={"cpp.dynamic_threads": True})
    except (InvalidCxxCompiler, CppCompileError) as error:
        return str(error).strip().splitlines()[0]
    return None


def load_program(path: Path) -> Program:
    """The program that was exported into the file `path`."""
    return torch.export.load(path).module()


def load_compiled(path: Path) -> Program:
    """The program that was compiled into the file `path`."""
    program: Program = torch._inductor.aoti_load_package(str(path))
    return program


def random_rows(layout: Layout, count: int, seed: int = 0) -> Rows:
    """Random rows [count, ..] that an encoder of this layout could make."""
    random = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=random, dtype=torch.int32)

    empty = torch.empty(count, 0, dtype=torch.int32)
    categorical = [integers(0, layout.table_rows[table])[:, None] for table in layout.categorical_tables]
    tables = zip(layout.bag_tables, layout.bag_lengths, strict=True)
    bags = [integers(PADDING, layout.table_rows[table])[:, None] for table, length in tables for _ in range(length)]
    numeric = torch.randn(count, layout.numeric, generator=random)
    return torch.cat([empty, *categorical], 1), torch.cat([empty, *bags], 1), numeric, integers(0, layout.scenarios)


@torch.inference_mode()
def largest_difference(program: Program, network: nn.Module, layout: Layout) -> float:
    """The largest absolute difference of a logit between program and network, for CHECKED_ROWS rows each."""
    rows = [random_rows(layout, count) for count in CHECKED_ROWS]
    return max(float((program(*one) - network(*one)).abs().max()) for one in rows)


def _checked(name: str, program: Program, model: Model) -> float:
    difference = largest_difference(program, model.network, model.encoder.layout)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{name}: its logits differ from those of the network {model.name} by {difference:.1e}, expected at most "
            f"{TOLERANCE:.0e}; nothing was written. Is torch {torch.__version__} the tested version?"
        )
    return difference


def _describe(model: Model) -> dict[str, Any]:
    """What a reader without our code has to know of the programs."""
    encoder, tasks = model.encoder, model.schema.tasks
    return {
        "model": model.name,
        "tag": model.tag,
        "torch": torch.__version__,
        "inputs": _inputs(encoder),
        "outputs": list(model.schema.output_names),
        "tasks": {task.name: task.kind for task in tasks},
        "scenarios": list(encoder.scenarios),
        "calibration": None if model.calibration is None else CALIBRATION,
    }


def _inputs(encoder: Encoder) -> list[dict[str, Any]]:
    """The four inputs in their order, each with its columns in theirs."""
    single = [column.name for column in encoder.columns if column.kind is Kind.CATEGORICAL]
    lists = [column for column in encoder.columns if column.is_list]
    return [
        {"name": "categorical", "type": "int32", "shape": ["rows", len(single)], "columns": single},
        {
            "name": "bags",
            "type": "int32",
            "shape": ["rows", sum(column.length or 0 for column in lists)],
            "columns": [f"{column.name}[{index}]" for column in lists for index in range(column.length or 0)],
        },
        {
            "name": "numeric",
            "type": "float32",
            "shape": ["rows", encoder.layout.numeric],
            "columns": list(encoder.number_names),
        },
        {"name": "scenario", "type": "int32", "shape": ["rows"], "columns": [encoder.scenario]},
    ]
