"""A clone of the project with a small simulation, and a tiny graph of stages to replace the real one."""

import subprocess
import time
from pathlib import Path
from typing import Any

from common.paths import PARAMS, ROOT
from common.yaml_file import dump_yaml, read_yaml

HINET: dict[str, Any] = {
    "sub_experts": 1,
    "expert_units": [8],
    "task_experts": 1,
    "shared_experts": 1,
    "task_expert_units": [8],
    "tower_units": [8],
    "scenario_width": 4,
}
SMALL: dict[str, Any] = {
    "dataset": {"simulation": {"impressions": 4000, "users": 80, "items": 40}},
    "encode": {"minimum_count": 2},
    "train": {
        "epochs": 1,
        "batch_size": 512,
        "embedding_width": 4,
        "hinet_plus": HINET | {"scenario_view": [8, 8], "cross_rank": 2},
        "hinet": HINET,
        "shared_bottom": {"bottom_units": [8], "tower_units": [8]},
    },
    "release": {"minimum_gain": -1.0, "guard": 0.99, "calibration": 1e9, "sample": 12},  # such a model learns little
}
TINY_STAGES = ("ingest", "join", "train", "package")  # a chain: each reads the output of the one before it
COPIES = 6  # of its input that a tiny stage writes, one by one: a kill in between leaves a part of them
SCRIPT = f"""echo "$1 begins"
rm -f "tiny/$1"
for part in $(seq {COPIES}); do cat "tiny/$2" >> "tiny/$1" || exit 1; sleep 0.7; done
"""


def clone(folder: Path) -> Path:
    """The last commit in `folder`, with a small simulation and a promotion policy that accepts every whole model."""
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        params = read_yaml(folder / PARAMS)
        (folder / PARAMS).write_text(dump_yaml(merged(params, SMALL)), encoding="utf-8")
        (folder / "dvc.lock").unlink()
    return folder.resolve()


def merged(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`params` with the `changes` of some of its keys, however deep they are nested."""
    nested = {name: merged(params[name], value) for name, value in changes.items() if isinstance(value, dict)}
    return {**params, **changes, **nested}


def write_tiny_graph(workspace: Path) -> None:
    """Replace the graph of the project by four short stages; the releases stay."""
    pairs = zip(TINY_STAGES, ("raw", *TINY_STAGES), strict=False)
    stages = {
        new: {"cmd": f"sh stage.sh {new} {old}", "deps": ["stage.sh", f"tiny/{old}"], "outs": [f"tiny/{new}"]}
        for new, old in pairs
    }
    (workspace / "dvc.yaml").write_text(dump_yaml({"stages": stages}), encoding="utf-8")
    (workspace / "stage.sh").write_text(SCRIPT)
    (workspace / "tiny").mkdir(exist_ok=True)
    write_raw(workspace)


def write_raw(workspace: Path) -> None:
    """Write another raw log: every tiny stage is out of date."""
    (workspace / "tiny" / "raw").write_text(f"{time.time_ns()}\n" * 64)


def outputs_are_whole(workspace: Path) -> bool:
    """Whether each tiny stage wrote all its copies."""
    expected = (workspace / "tiny" / "raw").read_bytes()
    return all((workspace / "tiny" / name).read_bytes() == (expected := expected * COPIES) for name in TINY_STAGES)
