"""Stage: a bento that serves from any folder: source, parameters, model, online store and item snapshot.

The source is what the service imports and no more. The same inputs are the same bytes: the version is the model's
tag, and no clock enters.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from common import params, stage
from common.errors import ModelError
from features.store.item_snapshot import snapshot_beside
from models.model_folder import Model, read_model
from serving import service
from serving.http.openapi import describe
from serving.manifest import write_manifest
from serving.ranking.request import example, request_type

PACKAGES = (
    "cyclopts",
    "duckdb",
    "feast[duckdb,redis]",
    "numpy",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "orjson",
    "prometheus_client",
    "pyarrow",
    "pydantic",
    "pydantic_core",
    "PyYAML",
    "safetensors",
    "starlette",
    "torch",
    "tqdm",
    "typing_extensions",
)  # BentoML adds itself
KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")  # of the environment: the rest may hold secrets
SETTINGS = ("params.yaml", "features/store/feature_store.yaml", "features/store/feature_store.redis.yaml")
DESCRIPTION = """\
# HiNet ranking

Ranks items for one user in a scenario ({scenarios}) by the probability of {tasks}.

    bentoml serve .
    curl localhost:3000/rank -H "Content-Type: application/json" -d '{request}'

It listens on 127.0.0.1; `--host 0.0.0.0`, in a container BENTOML_HOST=0.0.0.0, opens it to others.
Everything that it needs lies in `src`: code, parameters, weights, encoder, online store and item snapshot.
"""


class _Dumper(yaml.SafeDumper):
    """YAML's own way with text, whatever other libraries of this process have taught its dumpers."""


_Dumper.add_representer(str, yaml.SafeDumper.represent_str)


def package(*, model: Path, online: Path, out: Path) -> None:
    """Build the bento `out` from the model folder `model` and the SQLite online store `online`; raises ModelError.

    The item snapshot beside the store goes with it.
    """
    read = read_model(model)
    for path in (online, snapshot_beside(online)):
        if not path.is_file():
            raise ModelError(f"{path} does not exist: run `dvc repro materialize`")
    settings = params.load(service.ROOT / "params.yaml").serve
    page = describe(request_type(read.schema, settings, read.views), settings, secured=False)
    with TemporaryDirectory() as scratch:
        context, home = Path(scratch) / "context", Path(scratch) / "home"
        copy_source(context)
        (context / "bentofile.yaml").write_text(yaml.dump(_options(read, online), Dumper=_Dumper))
        shutil.copytree(_build(context, home, read.tag), out)
    _stop_the_clock(out / "bento.yaml")
    (out / "apis" / "openapi.yaml").write_text(yaml.dump(page, Dumper=_Dumper))  # BentoML knows none of the paths
    shutil.copytree(model, out / "src" / service.SOURCES["HINET_MODEL"])
    packed = out / "src" / service.SOURCES["HINET_ONLINE_STORE"]
    shutil.copyfile(online, packed)
    shutil.copyfile(snapshot_beside(online), snapshot_beside(packed))
    write_manifest(out / "src")
    print(f"bento of model {read.tag}: bentoml serve {out.absolute()}", flush=True)  # a relative path it does not find


def copy_source(target: Path) -> None:
    """Copy every module of ours that the service imports, directly or not, and the settings, to `target`."""
    finder = ModuleFinder(path=[str(service.ROOT)])
    finder.run_script(str(service.ROOT / "serving" / "service.py"))
    modules = (getattr(module, "__file__", None) for module in finder.modules.values())
    names = {Path(path).relative_to(service.ROOT) for path in modules if path} | {Path(name) for name in SETTINGS}
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(service.ROOT / name, target / name)


def requirements() -> list[str]:
    """What the source imports of others, in the versions with which it runs here."""
    return [f"{name}=={version(name.split('[')[0]).split('+')[0]}" for name in PACKAGES]


def _options(model: Model, online: Path) -> dict[str, Any]:
    schema = model.schema
    request = json.dumps(example(schema))
    with online.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "service": "serving.service:RankingService",
        "name": "hinet",
        "description": DESCRIPTION.format(
            scenarios=", ".join(schema.scenarios), tasks=", ".join(schema.rated), request=request
        ),
        "labels": {"model": model.tag, "schema": schema.fingerprint(), "online_store": digest},
        "python": {"packages": requirements(), "lock_packages": False},
    }


def _build(context: Path, home: Path, tag: str) -> Path:
    """Let BentoML build what lies in `context`, in a process and a store of its own; the folder of the bento."""
    environment = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", "--version", tag, str(context)],
        cwd=context,
        env=kept | environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return home / "bentos" / "hinet" / tag


def _stop_the_clock(path: Path) -> None:
    """Take the moment of the build out of bento.yaml: the same inputs are to be the same bytes."""
    path.write_text(re.sub(r"^creation_time:.*\n", "", path.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    stage.run(package)
