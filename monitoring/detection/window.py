"""The current window: histograms of its rows on the bins of the reference, and scores of a sample of them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.files import sha256_of
from features.encoding.histogram_counts import count_histograms, files_of, select_rows
from features.encoding.histograms import Days, Histograms
from features.encoding.tensors import Tensors, labels_of
from features.engine import sql
from features.engine.connection import connect
from features.schema import Schema
from models.evaluation.accuracy import probabilities_of
from models.evaluation.predict import predict_calibrated
from models.evaluation.reference_profile import score_cells
from models.model_folder import Model
from monitoring.detection.readable import check_window, refusing_unreadable


@dataclass(frozen=True, kw_only=True)
class Window:
    """Histograms of all rows; scores by "scenario/task", labels and probabilities of a sample of N rows.

    `served`: the probabilities are those of the service at the time, not of the model now.
    """

    histograms: Histograms
    scores: dict[str, Any]
    labels: NDArray[np.float32]  # [N, T]
    probabilities: NDArray[np.float64]  # [N, O]
    scenario: NDArray[np.int32]  # [N]
    sha256: str
    served: bool


def open_window(
    rows: Path, model: Model, reference: Histograms, profile: dict[str, Any], *, most: int, days: Days | None = None
) -> Window:
    """The window of the Parquet file(s) `rows`, with the columns of the training set.

    Where they have `score_<task>`, these are the probabilities; else the model scores them.

    Args:
        rows: a file, or a pattern of files in one folder.
        model: the model whose reference the window is compared with.
        reference: histograms of its training rows.
        profile: scores of its validation rows (behaviour.json).
        most: rows of the sample, drawn by their event id.
        days: first and last day (UTC); None: all.

    Raises:
        SourceError: there is no file.
        UnreadableWindowError: a file is no Parquet, or its columns, types or values are not of the schema.
        SchemaError: the window has no rows.
    """
    check_window(rows, model, reference, days)
    with refusing_unreadable(rows):
        return _read(rows, model, reference, profile, most=most, days=days)


def _read(
    rows: Path, model: Model, reference: Histograms, profile: dict[str, Any], *, most: int, days: Days | None
) -> Window:
    """The window; see `open_window` for the arguments."""
    histograms = count_histograms(
        rows,
        model.schema,
        model.encoder,
        reference.bins,
        targets=[target.bins for target in reference.targets.values()],
        period_days=reference.period_days,
        days=days,
    )
    table = _sample(rows, model.schema, most, days)
    encoded = Tensors(
        **vars(model.encoder.encode(table)),
        labels=np.stack([labels_of(task, table[task.name]) for task in model.schema.tasks], axis=1),
        event_id=np.empty(0, np.int64),
        user=np.empty(0, np.int64),
    )
    names = [f"score_{name}" for name in model.schema.output_names]
    served = set(names) <= set(table.column_names)
    probabilities = (
        np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
        if served
        else probabilities_of(predict_calibrated(model, encoded), model.schema.tasks, model.encoder.targets)
    )
    edges = {cell: scores["edges"] for cell, scores in profile["scores"].items()}
    scores = score_cells(probabilities, encoded.labels, encoded.scenario, model.schema, edges)
    return Window(
        histograms=histograms,
        scores=scores,
        labels=encoded.labels,
        probabilities=probabilities,
        scenario=encoded.scenario,
        sha256=_sha256(rows),
        served=served,
    )


def _sample(rows: Path, schema: Schema, most: int, days: Days | None) -> pa.Table:
    """Up to `most` rows, by the hash of their event id, or of time, user, item and scenario where there is no event."""
    with connect(share=3 / 4) as connection:
        source = select_rows(rows, schema, days)
        (total,) = connection.execute(f"select count(*) from ({source})").fetchone() or (0,)
        share = min(most / max(total, 1), 1.0)
        impression = sql.columns((schema.timestamp, schema.user, schema.item, schema.scenario))
        event_id = sql.column(schema.event_id)
        drawn = f"case when {event_id} is null then hash({impression}) else hash({event_id}) end"
        where = "" if share == 1 else f" where {drawn} < {share} * 18446744073709551615::double"
        return connection.execute(
            f"from ({source}){where} order by {event_id} nulls last, {impression}"
        ).to_arrow_table()


def _sha256(rows: Path) -> str:
    """SHA-256 over the checksums of the files, in the order of their names."""
    digest = hashlib.sha256()
    for path in files_of(rows):
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()
