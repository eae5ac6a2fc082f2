"""The command `python -m benchmarks.gpu`: on a machine without a GPU, within a budget, and with parts that fail."""

import doctest
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import parts as gpu_parts
from benchmarks.gpu import plan, products
from benchmarks.gpu.__main__ import gpu
from benchmarks.gpu.parts import Part, Parts
from benchmarks.gpu.products import ProductRecorder, all_products, products_of_step
from benchmarks.gpu.report import aucs, failures, speeds
from benchmarks.gpu.sizes import CAPTURED, COMPILED, EAGER, TINY, Variant, sizes
from benchmarks.training.workload import Workload
from common.errors import TrainingError
from models.networks.layers import StackedLinear

CPU = torch.device("cpu")


def report_of(*parts: dict[str, Any]) -> dict[str, Any]:
    """A report with these parts."""
    return {"parts": [{"size": "small", "status": "done", **part} for part in parts]}


@pytest.mark.integration
def test_without_a_gpu_a_tiny_size_is_measured_and_the_rest_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends well; it has speed, roof and AUC of the CPU, and says of every CUDA part that it was not run."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu(json=tmp_path / "gpu.json", rows=1000) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    done = {(part["kind"], part["variant"]): part["result"] for part in report["parts"] if part["status"] == "done"}
    assert set(done) == {("auc", plan.CPU), ("roof", "float32"), ("steps", "float32")}
    assert done["steps", "float32"]["samples_per_second"] > 0
    assert done["roof", "float32"]["samples_per_second"] > 0
    assert 0 <= done["auc", plan.CPU]["auc"] <= 1
    reasons = {(part["kind"], part["variant"]): part["reason"] for part in report["parts"] if "reason" in part}
    assert {variant.name for variant in (*EAGER[1:], *CAPTURED, *COMPILED)} <= {variant for _, variant in reasons}
    assert set(reasons.values()) == {plan.NO_GPU}
    printed = capsys.readouterr().out
    assert "not run: tests: torch sees no GPU" in printed
    assert "FAILED" not in printed


@pytest.mark.unit
def test_a_spent_budget_leaves_parts_out(tmp_path: Path) -> None:
    """A part that would not end within the budget is not run, and the report on disk says so."""
    clock = iter([0.0, 10.0, 50.0, 50.0, 100.0])
    parts = Parts(tmp_path / "gpu.json", {"gpu": None}, seconds=60, clock=lambda: next(clock))
    ran: list[str] = []
    parts.run(Part(kind="first", needs=30), lambda: {"ran": ran.append("first")})
    parts.run(Part(kind="second", size="large", needs=30), lambda: {"ran": ran.append("second")})
    parts.run(Part(kind="third", needs=0), lambda: {"ran": ran.append("third")})
    assert ran == ["first"]
    written = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [part["status"] for part in written] == ["done", "not run", "not run"]
    assert written[0]["seconds"] == 40.0
    assert written[1]["reason"] == "it needs up to 30 s, and 10 s of the budget are left"
    assert written[2]["reason"] == "it needs up to 0 s, and 0 s of the budget are left"


@pytest.mark.unit
def test_a_part_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    """Its first line is kept as the reason, and it counts as a failure."""
    parts = Parts(tmp_path / "gpu.json", {}, seconds=60)

    def out_of_memory() -> dict[str, Any]:
        raise RuntimeError("CUDA out of memory\nand more")

    parts.run(Part(kind="steps", size="large", variant="tf32", needs=1), out_of_memory)
    parts.run(Part(kind="roof", size="large", variant="tf32", needs=1), lambda: {"tflops": 1})
    assert [part["status"] for part in parts.report["parts"]] == ["failed", "done"]
    assert failures(parts.report) == ["steps, large, tf32: RuntimeError: CUDA out of memory"]


@pytest.mark.unit
def test_the_share_of_the_roof_is_of_the_same_size_and_precision() -> None:
    """Speed over that of the products alone; without a roof there is no share."""
    report = report_of(
        {"kind": "roof", "variant": "tf32", "result": {"samples_per_second": 200, "operations_per_sample": 10**10}},
        {"kind": "steps", "variant": "tf32, captured", "result": {"samples_per_second": 50, "kernels": 7}},
        {"kind": "steps", "variant": "bfloat16", "result": {"samples_per_second": 60, "kernels": None}},
        {"kind": "steps", "variant": "tf32", "size": "large", "result": {"samples_per_second": 70, "kernels": None}},
    )
    assert [(row["roof"], row["tflops"], row["kernels"]) for row in speeds(report)] == [
        (0.25, 0.5, 7),
        (None, None, None),
        (None, None, None),
    ]


@pytest.mark.unit
def test_an_auc_far_from_the_cpus_is_a_failure() -> None:
    """A difference of up to 0.01 is none; without the CPU's AUC there is no difference."""
    report = report_of(
        {"kind": "auc", "variant": plan.CPU, "result": {"auc": 0.70}},
        {"kind": "auc", "variant": "tf32", "result": {"auc": 0.705}},
        {"kind": "auc", "variant": "bfloat16", "result": {"auc": 0.68}},
        {"kind": "auc", "variant": "tf32", "size": "large", "result": {"auc": 0.5}},
    )
    assert [row["difference"] for row in aucs(report)] == [0, 0.005, -0.02, None]
    assert failures(report) == ["the AUC of small, bfloat16 is 0.68, -0.02 from the CPU's: expected at most 0.01"]


@pytest.mark.unit
def test_the_roof_has_the_three_products_of_every_layer() -> None:
    """Forward, gradient of the rows, gradient of the weights: 6 operations for each weight and row of the batch."""
    counts = products_of_step(TINY, 1000, CPU)
    network = Workload.of(TINY.shape, 200, batch_size=TINY.batch_size).loop.state.network
    weights = sum(module.weight.numel() for module in network.modules() if isinstance(module, StackedLinear))
    operations = sum(product.operations * count for product, count in counts.items())
    assert operations >= 6 * weights * TINY.batch_size
    assert operations <= 6.5 * weights * TINY.batch_size  # and the attention's


@pytest.mark.unit
def test_the_products_run_again_with_the_same_shapes_and_layouts() -> None:
    """What `all_products` runs is what was recorded."""
    counts = products_of_step(TINY, 1000, CPU)
    run = all_products(counts, CPU, torch.float32)
    recorder = ProductRecorder()
    with recorder:
        run()
    assert recorder.counts == counts


@pytest.mark.unit
@pytest.mark.parametrize(("precision", "inside"), [("float32", "highest"), ("tf32", "high"), ("bfloat16", "highest")])
def test_tf32_is_on_inside_its_variant_only(precision: str, inside: str) -> None:
    """The setting of torch is that of the variant, and afterwards what it was."""
    before = torch.get_float32_matmul_precision()
    with Variant(precision=precision).products():
        assert torch.get_float32_matmul_precision() == inside
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.unit
def test_the_sizes_are_the_authors_and_the_default() -> None:
    """The authors' widths with three batch sizes, 4,096 first; the default with the batch size of params.yaml."""
    measured = sizes()
    authors = [size for size in measured if size.name.startswith("authors")]
    assert [size.batch_size for size in authors] == [4096, 16_384, 65_536]
    assert all((size.shape["sub_experts"], size.shape["expert_units"]) == (5, (128, 64)) for size in authors)
    assert [size.name for size in measured if size not in authors] == ["default"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tests_that_were_all_skipped_are_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part runs the tests that are marked cuda; where none of them ran it fails with pytest's last line."""
    monkeypatch.setattr(plan, "TESTS", ("tests/models/training/test_loop.py", "-m", "cuda"))
    monkeypatch.setitem(plan.NEEDS, "tests", 400)
    with pytest.raises(TrainingError, match=r"-m cuda ended with 0: .*1 skipped"):
        plan.cuda_tests()


@pytest.mark.unit
def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert sum(doctest.testmod(module).failed for module in (gpu_parts, products)) == 0


@pytest.mark.unit
def test_on_a_gpu_every_variant_of_every_size_has_its_turn(tmp_path: Path) -> None:
    """The plan, with a budget of nothing: tests and AUC come first, compiled variants last, and no part runs."""
    parts = Parts(tmp_path / "gpu.json", {}, seconds=0)
    plan.run_parts(parts, torch.device("cuda"), 1000)
    planned = [(part["kind"], part["size"], part["variant"]) for part in parts.report["parts"]]
    assert {part["status"] for part in parts.report["parts"]} == {"not run"}
    assert planned[:2] == [("tests", "", ""), ("auc", "authors, batch 4,096", plan.CPU)]
    for size in sizes():
        of_size = {variant for kind, name, variant in planned if (kind, name) == ("steps", size.name)}
        assert of_size == {variant.name for variant in (*EAGER, *CAPTURED, *COMPILED)}
        assert [v for kind, name, v in planned if (kind, name) == ("roof", size.name)] == [v.name for v in EAGER]
    assert all("compiled" in variant for _, _, variant in planned[-len(COMPILED) * len(sizes()) :])
    assert len(planned) == len(set(planned))
