"""The models that are measured together are of one schema."""

import dataclasses
from pathlib import Path

import pytest

from common.errors import ModelError
from models.evaluation import trained_models
from tests.support.evaluation import SCHEMA

pytestmark = pytest.mark.unit


def test_a_model_of_another_schema_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that was trained on other columns must not be measured on these rows."""
    other = dataclasses.replace(SCHEMA, name="other")
    monkeypatch.setattr(trained_models, "read_model", lambda folder: type("Model", (), {"schema": other}))
    with pytest.raises(ModelError, match="trained on the schema of other"):
        trained_models.read_models([tmp_path], SCHEMA)
