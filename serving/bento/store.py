"""BentoML's store: the packaged bentos and their models, as `bentoml list` and `bentoml models list` show them.

The store is a by-product of the stage `package`, no output: its entries have a creation time. They are hard links to
the packaged files, or copies: nothing reads them but BentoML, and what is deleted there is missing nowhere else.
"""

import contextlib
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bentoml
from bentoml._internal.bento import BentoStore
from bentoml._internal.models import ModelStore

from models.model_folder import CURVES, MODEL, REFERENCE, SCHEMA
from serving.http.model_info import days_of, metrics_of

NAME = "hinet"  # of the bentos and of the models
KEPT = 5  # of each: the newest; a bento of the simulation has 180 MB


def store_bento(bento: Path, model: Path, *, tag: str, home: Path) -> None:
    """Put a bento and its model, both of the version `tag`, into the BentoML home `home`, as the latest.

    Entries of the same version are replaced, and all but the newest KEPT are deleted.
    """
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    bentos, models = BentoStore(_folder(home / "bentos")), ModelStore(_folder(home / "models"))
    with _entry(models, tag), bentoml.models.create(f"{NAME}:{tag}", **_notes(model), _model_store=models) as entry:
        shutil.copytree(model, entry.path, dirs_exist_ok=True)
    with _entry(bentos, tag), bentos.register(f"{NAME}:{tag}") as path:
        shutil.copytree(bento, path, copy_function=_link_or_copy, dirs_exist_ok=True)
        _add_creation_time(Path(path) / "bento.yaml")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def _entry(store: Any, tag: str) -> Any:
    """Replace the entry `tag` of a store by what is put there within, then delete the oldest ones."""
    with contextlib.suppress(bentoml.exceptions.NotFound):
        store.delete(f"{NAME}:{tag}")
    yield
    for old in sorted(store.list(NAME), key=lambda entry: entry.creation_time)[:-KEPT]:
        store.delete(old.tag)


def _notes(model: Path) -> dict[str, Any]:
    """Labels and metadata of a model folder; BentoML's metadata know no null: a metric without a value is left out."""
    document, reference, curves, schema = (
        json.loads((model / name).read_text()) for name in (MODEL, REFERENCE, CURVES, SCHEMA)
    )
    first, last = days_of(reference)
    labels = {
        "network": document["name"],
        "dataset": schema["name"],
        "schema": document["schema"],
        "data": document["sha256"][REFERENCE],  # of the histograms of the training rows
        "first_day": first.isoformat(),
        "last_day": last.isoformat(),
    }
    metrics = metrics_of(document["summary"], curves)
    return {"labels": labels, "metadata": _without_nulls({"summary": document["summary"], "metrics": metrics})}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value if inner is not None]
    return value


def _link_or_copy(source: str, target: str) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _add_creation_time(path: Path) -> None:
    """Write the time into bento.yaml, in a file of its own: the packaged one has none, and may be the same file."""
    text = path.read_text(encoding="utf-8")
    path.unlink()
    path.write_text(f"{text}creation_time: {datetime.now(UTC).isoformat()}\n", encoding="utf-8")
