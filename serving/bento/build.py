"""The build of a bento from a model folder and an online store, by BentoML in a child process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from common import params
from common.errors import ModelError
from common.files import sha256_of
from common.paths import CONSTRAINTS, MODEL, ONLINE_STORE, PARAMS, ROOT
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import Model, read_model
from serving.bento import image
from serving.bento.manifest import write_manifest
from serving.bento.source import SERVICE, copy_source, requirements
from serving.http.openapi import describe
from serving.ranking.request import example_request, request_type

ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")  # passed to the build: other variables may hold secrets
DESCRIPTION = """\
# HiNet ranking

Ranks items for one user in a scenario ({scenarios}) by the probability of {tasks}.

    bentoml serve .
    curl localhost:3000/rank -H "Content-Type: application/json" -d '{request}'

It listens on 127.0.0.1; `--host 0.0.0.0`, in a container BENTOML_HOST=0.0.0.0, opens it to others.
Everything that it needs lies in `src`: code, parameters, weights, encoder, online store and item snapshot.
"""


class _Dumper(yaml.SafeDumper):
    """PyYAML's default representation of text: other libraries of the process change it in PyYAML's dumpers."""


_Dumper.add_representer(str, yaml.SafeDumper.represent_str)


def build_bento(*, model: Path, online: Path, out: Path) -> str:
    """Build the bento `out`; returns the tag of the model, raises ModelError for a missing or damaged input."""
    packed = read_model(model)
    for path in (online, item_snapshot_path(online)):
        if not path.is_file():
            raise ModelError(f"{path} does not exist: run `dvc repro materialize`")
    serve = params.load(ROOT / PARAMS).serve
    openapi = describe(request_type(packed.schema, serve, packed.views), serve, secured=False)
    with TemporaryDirectory() as scratch:
        context, home = Path(scratch) / "context", Path(scratch) / "home"
        copy_source(context, network=packed.name)
        (context / "bentofile.yaml").write_text(yaml.dump(_bentofile(packed, online), Dumper=_Dumper))
        shutil.copytree(_run_bentoml(context, home, packed.tag), out)
    _remove_build_time(out / "bento.yaml")
    (out / "apis" / "openapi.yaml").write_text(yaml.dump(openapi, Dumper=_Dumper))  # BentoML knows none of the paths
    shutil.copyfile(ROOT / CONSTRAINTS, out / image.CONSTRAINTS)
    shutil.copytree(model, out / "src" / MODEL)
    shutil.copyfile(online, out / "src" / ONLINE_STORE)
    shutil.copyfile(item_snapshot_path(online), item_snapshot_path(out / "src" / ONLINE_STORE))
    write_manifest(out / "src")
    _let_anybody_read(out)
    return packed.tag


def _bentofile(model: Model, online: Path) -> dict[str, Any]:
    schema = model.schema
    description = DESCRIPTION.format(
        scenarios=", ".join(schema.scenarios),
        tasks=", ".join(schema.averaged),
        request=json.dumps(example_request(schema)),
    )
    return {
        "service": f"{SERVICE}:RankingService",
        "name": "hinet",
        "description": description,
        "labels": {"model": model.tag, "schema": schema.fingerprint(), "online_store": sha256_of(online)},
        "envs": [{"name": name, "value": value} for name, value in image.ENVIRONMENT.items()],
        "python": {"packages": requirements(), "lock_packages": False},
    }


def _run_bentoml(context: Path, home: Path, tag: str) -> Path:
    """Run `bentoml build` on the folder `context` with a new BENTOML_HOME; returns the folder of the bento."""
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", "--version", tag, str(context)],
        cwd=context,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return home / "bentos" / "hinet" / tag


def _remove_build_time(path: Path) -> None:
    """Remove the creation time from bento.yaml, so that equal inputs give equal bytes."""
    text = re.sub(r"^creation_time:.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def _let_anybody_read(folder: Path) -> None:
    """Set the modes that an image needs to run as any user, whatever the umask of whoever packs it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
