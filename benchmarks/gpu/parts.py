"""The parts of the benchmark: run one after the other within a time budget, and written down one by one."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.machine import machine, report_progress
from common.files import write_text


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is measured, of which size and variant, and the seconds that it takes at most, as far as one knows."""

    kind: str
    size: str = ""
    variant: str = ""
    needs: float

    @property
    def name(self) -> str:
        """Its name in messages."""
        return ", ".join(word for word in (self.kind, self.size, self.variant) if word)


class Parts:
    """What was run, with its result; what was not run, with the reason; what failed, with the error.

    >>> import tempfile
    >>> parts = Parts(Path(tempfile.mkdtemp()) / "gpu.json", {}, seconds=60)
    >>> parts.run(Part(kind="roof", needs=1), lambda: {"tflops": 3})
    >>> parts.run(Part(kind="steps", needs=61), lambda: {"samples_per_second": 4})
    >>> [part["status"] for part in parts.report["parts"]]
    ['done', 'not run']
    """

    def __init__(
        self, path: Path, head: dict[str, Any], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.clock = path, clock
        self.end = clock() + seconds
        self.report: dict[str, Any] = {**head, "budget_seconds": seconds, "parts": []}

    def run(self, part: Part, call: Callable[[], dict[str, Any]], missing: str | None = None) -> None:
        """Run the part, whose result is plain data, and write the report.

        It is not run where the machine lacks what `missing` says, or where it would not end within the budget.
        """
        started = self.clock()
        if missing is None and self.end - started < part.needs:
            left = max(self.end - started, 0)
            missing = f"it needs up to {part.needs:.0f} s, and {left:.0f} s of the budget are left"
        if missing is not None:
            self._add(part, status="not run", reason=missing)
            return
        report_progress(part.name)
        try:
            result = call()
        except Exception as error:  # whatever a driver or a compiler raises: the other parts are still worth their time
            traceback.print_exc()
            self._add(part, status="failed", reason=_sentence(error))
        else:
            self._add(part, status="done", seconds=round(self.clock() - started, 1), result=result)

    def _add(self, part: Part, **facts: Any) -> None:
        self.report["parts"].append({"kind": part.kind, "size": part.size, "variant": part.variant, **facts})
        write_text(self.path, json.dumps(self.report, indent=1) + "\n")


def machine_with_gpu(device: torch.device) -> dict[str, Any]:
    """Processor, cores, versions and time; with a GPU its name, memory, multiprocessors and CUDA."""
    facts = {**machine(), "torch": torch.__version__, "gpu": None}
    if device.type != "cuda":
        return facts
    gpu = torch.cuda.get_device_properties(device)
    return {
        **facts,
        "gpu": gpu.name,
        "gpu_gib": round(gpu.total_memory / 2**30),
        "multiprocessors": gpu.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
