"""The model of one morning: trained on the rows of the morning, then it scores the day."""

import contextlib
import datetime
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.report import Cells, auc_of
from benchmarks.mornings.rows import ENCODER, REFERENCE, ROWS, TENSORS, write_morning
from common.paths import SCHEMA, VIEWS
from common.train_params import Train
from features.encoding.tensors import open_tensors, write_tensors
from models.evaluation.predict import predict
from models.model_folder import read_model
from models.training.train_model import train_model


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model that scores a day.

    Args:
        run: folder with params.yaml, schema, views and joined rows.
        day: the day that is scored, e.g. 2026-01-20.
        rows: folder of the rows of the morning, written where it does not exist.
        network: name of the network.
        settings: params.train of the training; None: the model in `model` is there and is not trained.
        start: model folder in which the training begins; None: new weights.
        model: the model folder.
    """

    run: Path
    day: str
    rows: Path
    network: str
    settings: Train | None
    start: Path | None
    model: Path


def run_job(job: Job) -> dict[str, Any]:
    """Train the model and score the day.

    Returns AUC by cell and its mean, CPU seconds of its epochs and of the whole stage, and the number of epochs.
    """
    with contextlib.redirect_stdout(None):
        if not job.rows.exists():
            write_morning(job.run, datetime.date.fromisoformat(job.day), job.rows)
        trained = {} if job.settings is None else _train(job, job.settings)
        cells = score(job.model, job.rows)
    return {"auc": round(float(np.nanmean(np.array(cells, dtype=np.float64))), 6), "cells": cells, **trained}


def _train(job: Job, settings: Train) -> dict[str, Any]:
    """Train the model; CPU seconds of all threads of this process.

    Those of the epochs include the evaluation after each epoch. Those of the stage include the final pass, if the
    recipe has one, and the reference profile, whose costs do not depend on the number of epochs.
    """
    copied = {"schema": job.run / SCHEMA, "views": job.run / VIEWS}
    copied |= {"encoder": job.rows / ENCODER, "reference": job.rows / REFERENCE}
    times = [time.process_time()]
    train_model(
        job.network,
        copied,
        job.rows / TENSORS,
        job.model,
        checkpoints=None,
        settings=settings,
        training=job.rows / ROWS,
        start=job.start,
        observe=lambda state: times.append(time.process_time()),
    )
    summary = read_model(job.model).summary
    rows = len(open_tensors(job.rows / TENSORS / "train").scenario)
    seconds = {"cpu_seconds": round(times[-1] - times[0], 2), "stage_cpu_seconds": round(_since(times[0]), 2)}
    return {**seconds, "epochs": summary["epochs"], "best_epoch": summary["best_epoch"], "training_rows": rows}


def _since(begin: float) -> float:
    return time.process_time() - begin


def score(folder: Path, rows: Path) -> Cells:
    """AUC by cell of the model in `folder` on the test rows of a morning, encoded by the model's own encoder."""
    model = read_model(folder)
    with tempfile.TemporaryDirectory() as temporary:
        write_tensors(model.encoder, model.schema, rows / ROWS / "test.parquet", Path(temporary) / "test")
        test = open_tensors(Path(temporary) / "test")
        return auc_of(model.schema, test, predict(model.network, test, "test rows"))
