"""Tiny DVC repositories for flows to run in, and what runs leave on Prefect's server."""

import asyncio
import json
from pathlib import Path
from typing import Any

from common.stage_report import VARIABLE
from common.yaml_file import dump_yaml


def write_repository(root: Path, **stages: dict[str, Any]) -> None:
    """Make `root` a DVC repository without git that has these stages, written as in dvc.yaml."""
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (root / "dvc.yaml").write_text(dump_yaml({"stages": stages}), encoding="utf-8")


def report_command(module: str, *, error: str | None = None, megabytes: float = 100.0) -> str:
    """A shell command that writes the stage report of `module`, as common.stage.run does."""
    status = int(error is not None)
    report = {"module": module, "status": status, "error": error, "seconds": 1.5, "peak_megabytes": megabytes}
    return f"echo '{json.dumps(report)}' > ${VARIABLE}"


def newest_table() -> dict[str, dict[str, Any]]:
    """The rows of the newest table of stages on the server, by stage."""
    return {row["stage"]: row for row in json.loads(newest_artifact("stages"))}


def newest_artifact(key: str) -> str:
    """The data of the newest artifact of that key on the server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    async def read() -> str:
        of_key = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        async with get_client() as client:
            (artifact,) = await client.read_artifacts(artifact_filter=of_key, sort=ArtifactSort.CREATED_DESC, limit=1)
            return str(artifact.data)

    return asyncio.run(read())


def running(word: str) -> list[int]:
    """The ids of the processes whose command line contains `word`."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
    return [process for process, command in commands.items() if word in command]
