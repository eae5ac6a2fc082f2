"""The stages of dvc.yaml that make a trained model of a raw log, run in this process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.aggregate import aggregate
from features.encode import encode
from features.ingest import ingest
from features.inspect_online import inspect_online
from features.inspect_tensors import inspect_tensors
from features.inspect_training import inspect_training
from features.join import join
from features.materialize import materialize
from features.quality import gate
from features.summarize import summarize
from features.validate import validate
from models.evaluate import evaluate
from models.train import train
from tests.support.tiny_project import MODEL, ONLINE

DATA, SCHEMA, FEATURES = Path("data"), Path("data/schema.json"), Path("data/features")
VALIDATED, TRAINING, TENSORS = DATA / "validated", DATA / "training", DATA / "tensors"
VIEWS, ENCODER, REFERENCE = FEATURES / "views.json", Path("artifacts/encoder.parquet"), Path("artifacts/reference.json")


@contextlib.contextmanager
def no_data_docs() -> Iterator[None]:
    """Quality gates write no pages: Data Docs have separate tests, and take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate.datadocs, "build", lambda *values, **named: None)
        yield


def run_stages(root: Path) -> None:
    """From the raw log that params.yaml in `root` names to metrics of a trained HiNet and an online store."""
    with contextlib.chdir(root):
        ingest(schema=SCHEMA, out=DATA / "ingested", truth=DATA / "truth")
        validate(
            schema=SCHEMA,
            ingested=DATA / "ingested",
            out=VALIDATED,
            quarantine=DATA / "quarantine",
            report=Path("validation.json"),
            docs=Path("docs/validation"),
        )
        aggregate(schema=SCHEMA, validated=VALIDATED, out=FEATURES)
        join(schema=SCHEMA, validated=VALIDATED, features=FEATURES, out=TRAINING)
        encode(schema=SCHEMA, views=VIEWS, training=TRAINING, encoder=ENCODER, out=TENSORS)
        summarize(schema=SCHEMA, encoder=ENCODER, training=TRAINING, out=REFERENCE)
        copied = {"schema": SCHEMA, "views": VIEWS, "encoder": ENCODER, "reference": REFERENCE}
        train(model="hinet_plus", **copied, training=TRAINING, tensors=TENSORS, out=MODEL)
        evaluate(
            models=[MODEL],
            tensors=TENSORS,
            truth=DATA / "truth",
            schema=SCHEMA,
            out=Path("metrics.json"),
            plots_out=Path("plots"),
            predictions=Path("predictions"),
        )
        materialize(schema=SCHEMA, features=FEATURES, online=ONLINE)


def run_inspections(root: Path) -> None:
    """The quality gates behind the first, on what `run_stages` made."""
    with contextlib.chdir(root):
        inspect_training(
            schema=SCHEMA,
            validated=VALIDATED,
            features=FEATURES,
            training=TRAINING,
            report=Path("training.json"),
            docs=Path("docs/training"),
        )
        inspect_online(
            schema=SCHEMA, features=FEATURES, online=ONLINE, report=Path("online.json"), docs=Path("docs/online")
        )
        inspect_tensors(
            schema=SCHEMA,
            encoder=ENCODER,
            training=TRAINING,
            tensors=TENSORS,
            report=Path("tensors.json"),
            docs=Path("docs/tensors"),
        )
