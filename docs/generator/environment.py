"""The page of the environment variables: those of the project (common/settings.py) and those of the Makefile."""

import re
from pathlib import Path

from common.settings import Settings, variable
from docs.generator.markdown import page, table, type_of, value

EXPORT = re.compile(r"^export (\w+) := (.*)$", re.MULTILINE)
INTRODUCTION = """
The service, the commands of the online store and the release read these variables once, when they start. A wrong value
is an error that names the variable."""
TOOLS = """
## Variables of the tools

| variable | read by | meaning |
|---|---|---|
| `OMP_NUM_THREADS` | torch, DuckDB | Most threads of a stage, of the service and of the tests. Set it to 1 on a busy machine. |
| `CUDA_VISIBLE_DEVICES` | torch | The GPUs that a training may use. |
| `PREFECT_API_URL` | Prefect | The API of a running server, e.g. `http://127.0.0.1:4200/api`. Without it a flow starts a temporary server. |
| `PREFECT_HOME` | Prefect | Folder of the database of a server on SQLite (`~/.prefect`). |
| `BENTOML_HOST`, `BENTOML_PORT` | BentoML | Address on which the service listens (`127.0.0.1:3000`). |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | OpenTelemetry | Where spans are sent with `serve.tracing.exporter: otlp`. |"""


def environment_page(root: Path) -> str:
    """The page, with what the Makefile in the folder `root` exports."""
    properties = Settings.model_json_schema()["properties"]
    rows = (
        (f"`{variable(name)}`", type_of(field), value(field["default"]), field["description"])
        for name, field in properties.items()
    )
    return page(
        "Environment variables",
        "common/settings.py and the Makefile",
        INTRODUCTION,
        table(["variable", "type", "default", "meaning"], rows),
        f"## Set by the Makefile\n\nTelemetry is off.\n\n{table(['variable', 'value'], exported(root))}",
        TOOLS,
    )


def exported(root: Path) -> list[tuple[str, str]]:
    """Name and value of each variable that the Makefile exports, except the search path of programs."""
    found = EXPORT.findall((root / "Makefile").read_text())
    return [(f"`{name}`", f"`{text}`") for name, text in found if name != "PATH"]
