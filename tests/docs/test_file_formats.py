"""The page of the file formats lists what the code writes."""

import dataclasses
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.paths import ROOT
from common.stage_report import StageReport
from features.encoding.encoder import METADATA, Encoder
from features.encoding.target_scale import TargetScale
from features.encoding.tensors import Tensors
from features.schema import Column, Schema, Task, View
from models.model_folder import CALIBRATION, FILES, MODEL
from tests.support.drift_document import document

pytestmark = pytest.mark.unit
TEXT = (ROOT / "docs" / "reference" / "file-formats.md").read_text()


def listed(heading: str) -> list[str]:
    """The names in the first column of the table below a heading, in order."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#)", TEXT, re.DOTALL | re.MULTILINE)
    assert section, heading
    return re.findall(r"^\| `([^`]+)` ", section[1], re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Schema", Schema),
        ("Column", Column),
        ("Task", Task),
        ("Views", View),
        ("Stage report", StageReport),
    ],
)
def test_a_document_has_the_fields_of_its_class(heading: str, kind: type) -> None:
    """A field of the class is a row of the table, and the other way round."""
    assert sorted(listed(heading)) == sorted(field.name for field in dataclasses.fields(kind))


def test_the_encoder_has_the_keys_that_are_written(tmp_path: Path) -> None:
    """Every key of the metadata of encoder.parquet is a row."""
    Encoder(
        scenario="scenario",
        scenarios=("home",),
        columns=(),
        vocabularies={},
        scales={},
        vector_scales={"image": ([0.0], [1.0])},
        targets={"watched": TargetScale(1.0, 2.0, 0.0)},
        buckets={"user_id": 8},
        capped=("user_id",),
    ).write(tmp_path / "encoder.parquet")
    assert sorted(listed("Encoder")) == sorted(
        json.loads(pq.read_schema(tmp_path / "encoder.parquet").metadata[METADATA])
    )


def test_the_tensors_are_the_arrays_that_are_opened() -> None:
    """Each array of Tensors is a file."""
    assert sorted(listed("Tensors")) == sorted(field.name for field in dataclasses.fields(Tensors))


def test_the_model_folder_has_the_files_that_are_written() -> None:
    """model.json, every file whose sha256 it holds, and that of calibrated models."""
    assert sorted(listed("Model folder")) == sorted([MODEL, *FILES, CALIBRATION])


def test_the_drift_report_has_the_keys_of_a_document() -> None:
    """Every key of drift.json is a row; `expectations` and `run` come from the stage, the others from the verdict."""
    assert sorted(listed("Drift report")) == sorted({*document(), "expectations", "run"})
