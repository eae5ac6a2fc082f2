"""What a worker will need, checked before any starts: model files by their sha256, schema, and a store that fits.

Otherwise worker after worker would fail, each with a traceback. No heavy imports: the process that checks only watches
the workers.
"""

import json
from pathlib import Path

from common.errors import ModelError
from common.files import sha256_of
from common.serve_params import ServeAB
from features.schema import read_schema, read_views
from serving.ranking.model_sources import ModelSources, fitting_sources

MODEL, SCHEMA, VIEWS = "model.json", "schema.json", "views.json"


def check_sources(sources: ModelSources) -> str | None:
    """Raise ModelError or SnapshotError where no worker could load `sources`.

    Returns a sentence where the store of the model's release will be read instead of the one in use.
    """
    folder = sources.model.resolve()
    check_model_files(folder)
    schema, views = read_schema(folder / SCHEMA), read_views(folder / VIEWS)
    resolved = ModelSources(folder, sources.online, sources.registry, sources.redis, sources.events)
    fitting, reason = fitting_sources(resolved, schema, views)
    return None if reason is None else f"the online store of the release is read, {fitting.online}: {reason}"


def check_challenger(test: ServeAB, root: Path) -> str | None:
    """A sentence where no worker could load the challenger of an A/B test: the champion answers in its place."""
    if test.challenger is None:
        return None
    try:
        check_model_files((root / test.challenger).resolve())
    except (ModelError, OSError) as error:
        return f"the champion answers in place of the challenger until this is corrected: {error}"
    return None


def check_model_files(folder: Path) -> None:
    """Compare the files of a model folder with the sha256 in its model.json; raises ModelError on a difference."""
    try:
        document = json.loads((folder / MODEL).read_text())
        digests, fingerprint = dict(document["sha256"]), document["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / MODEL}: expected the description of a model, found {type(error).__name__}: {error}; "
            "take the folder from its source or train again"
        ) from None
    for name, expected in digests.items():
        actual = sha256_of(folder / name) if (folder / name).is_file() else "no file"
        if actual != expected:
            raise ModelError(
                f"{folder / name}: expected sha256 {expected}, found {actual}: the folder was changed after it was "
                "written; take it from its source or train again"
            )
    actual = read_schema(folder / SCHEMA).fingerprint()
    if actual != fingerprint:
        raise ModelError(
            f"{folder / SCHEMA}: expected a schema with fingerprint {fingerprint}, found {actual}: this code reads it "
            "in another way than that which wrote it; serve the model by the bento of its release"
        )
