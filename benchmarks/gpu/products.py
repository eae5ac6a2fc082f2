"""The roof: the matrix products of a step alone, with the shapes and layouts that the step itself has."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.clock import seconds_per_call
from benchmarks.gpu.sizes import Size, Variant
from benchmarks.training.speed import forward_and_backward
from benchmarks.training.workload import Workload

ATEN = torch.ops.aten
FIRST_OPERAND = {ATEN.mm: 0, ATEN.bmm: 0, ATEN.addmm: 1, ATEN.baddbmm: 1}  # its index among the arguments


class Product(NamedTuple):
    """Shapes and strides of the operands of a product, of one matrix each or of a stack."""

    left: tuple[int, ...]
    left_strides: tuple[int, ...]
    right: tuple[int, ...]
    right_strides: tuple[int, ...]

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.right[-1] * int(torch.Size(self.left).numel())


class ProductRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the matrix products inside the block, those of the backward pass included.

    >>> with ProductRecorder() as recorder:
    ...     _ = torch.zeros(2, 3) @ torch.zeros(3, 4)
    >>> [(product.operations, count) for product, count in recorder.counts.items()]
    [(48, 1)]
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; note it if it is a product."""
        first = FIRST_OPERAND.get(func.overloadpacket)
        if first is not None:
            a, b = args[first : first + 2]
            self.counts[Product(tuple(a.shape), a.stride(), tuple(b.shape), b.stride())] += 1
        return func(*args, **(kwargs or {}))


def roof(size: Size, variant: Variant, rows: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """Samples/s and TFLOP/s of the products of a step alone, in the variant's precision.

    On a GPU they are captured as one CUDA graph, so that no launch counts.
    """
    counts = products_of_step(size, rows, device)
    dtype = torch.bfloat16 if variant.precision == "bfloat16" else torch.float32
    with variant.products():
        run = as_one_launch(all_products(counts, device, dtype), device)
        spent = seconds_per_call(run, device, seconds)
    operations = sum(product.operations * count for product, count in counts.items())
    return {
        "samples_per_second": round(size.batch_size / spent),
        "tflops": round(operations / spent / 1e12, 2),
        "products": counts.total(),
        "operations_per_sample": round(operations / size.batch_size),
    }


def products_of_step(size: Size, rows: int, device: torch.device) -> Counter[Product]:
    """The products of a step's forward and backward pass."""
    load = Workload.of(size.shape, rows, device=device.type, batch_size=size.batch_size)
    batch = next(load.batches())
    recorder = ProductRecorder()
    with recorder:
        forward_and_backward(load, batch)
    return recorder.counts


def all_products(counts: Counter[Product], device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """A function that runs all of the products on random operands; equal operands are one tensor."""
    operands: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def operand(shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        if (shape, strides) not in operands:
            made = torch.empty_strided(shape, strides, dtype=dtype, device=device)
            operands[shape, strides] = torch.randn_like(made)
        return operands[shape, strides]

    pairs = [
        (operand(product.left, product.left_strides), operand(product.right, product.right_strides))
        for product in counts.elements()
    ]

    def run() -> None:
        for a, b in pairs:
            torch.matmul(a, b)

    return run


def as_one_launch(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """On a GPU the function as a CUDA graph, elsewhere the function."""
    if device.type != "cuda":
        return run
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()  # libraries select their kernels before the capture
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
