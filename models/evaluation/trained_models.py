"""The model folders that are measured together."""

from collections.abc import Iterable
from pathlib import Path

from common.errors import ModelError
from features.schema import Schema
from models.model_folder import Model, read_model


def read_models(folders: Iterable[Path], schema: Schema) -> dict[Path, Model]:
    """The models in `folders`, by folder; raises ModelError on one that was trained on another schema."""
    models = {folder: read_model(folder) for folder in folders}
    for folder, model in models.items():
        if model.schema.fingerprint() != schema.fingerprint():
            raise ModelError(
                f"{folder}: trained on the schema of {model.schema.name} ({model.schema.fingerprint()[:12]}), "
                f"found {schema.name} ({schema.fingerprint()[:12]}); train it again"
            )
    return models
