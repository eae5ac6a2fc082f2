"""The training of deploy/kubernetes on this machine: two nodes in clones of their own, and what the next run finds."""

from pathlib import Path

import pytest

from tests.support.clone_runs import output_of, started
from tests.support.dvc_project import free_port, training_project, typed
from tests.support.manifests import of_kind

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_two_pods_train_one_model(tmp_path: Path) -> None:
    """The first pushes it; in the next clone the stage is up to date, and the model is there."""
    (container,) = of_kind("training", "Job")["training"]["spec"]["template"]["spec"]["containers"]
    script = container["args"][0].replace("training-0.training:29400", f"127.0.0.1:{free_port()}")
    script = script.replace("training-$JOB_COMPLETION_INDEX.training", "127.0.0.1$JOB_COMPLETION_INDEX")
    variables = {one["name"]: one["value"] for one in container["env"]}
    typed("git branch -M main", training_project(tmp_path / "own"))
    command = ("bash", "-euc", script)
    indices = range(int(variables["NODES"]))
    nodes = [
        started(tmp_path, number, *command, JOB_COMPLETION_INDEX=str(number), **variables)
        for number in reversed(indices)  # the order of their starts does not count
    ]
    for node in nodes:
        output_of(node)
    after = output_of(started(tmp_path, len(nodes), "dvc", "status", "train@hinet_plus"))
    assert "Data and pipelines are up to date." in after
    trained, pulled = (tmp_path / f"clone{number}" / "artifacts/models/hinet_plus" for number in (0, len(nodes)))
    assert {path.name for path in trained.iterdir()} == {path.name for path in pulled.iterdir()}
    assert (trained / "weights.safetensors").read_bytes() == (pulled / "weights.safetensors").read_bytes()
