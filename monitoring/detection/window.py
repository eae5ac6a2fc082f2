"""The current window: histograms of its rows on the bins of the reference, and scores of a sample of them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.files import sha256_of
from common.stored_files import checksums, is_stored, schema_of
from features.encoding.histogram_counts import count_histograms
from features.encoding.histograms import Days, Histograms
from features.encoding.tensors import Tensors, labels_of
from features.encoding.window_rows import counting_engine, files_of, read_window
from features.engine import sql
from features.engine.connection import connect
from features.engine.protocol import Engine
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
    rows: Path,
    model: Model,
    reference: Histograms,
    profile: dict[str, Any],
    *,
    most: int,
    days: Days | None = None,
    engine: Engine | None = None,
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
        engine: where the rows are read; None: DuckDB.

    Raises:
        SourceError: there is no file.
        UnreadableWindowError: a file is no Parquet, or its columns, types or values are not of the schema.
        SchemaError: the window has no rows.
    """
    check_window(rows, model, reference, days, engine)
    with refusing_unreadable(rows):
        histograms = _histograms(rows, model, reference, days, engine)
        table = _sample(rows, model.schema, most, days, engine)
    return _scored(table, model, profile, histograms, _sha256(rows))


def _histograms(
    rows: Path, model: Model, reference: Histograms, days: Days | None, engine: Engine | None
) -> Histograms:
    """The rows on the bins of the reference."""
    return count_histograms(
        rows,
        model.schema,
        model.encoder,
        reference.bins,
        targets=[target.bins for target in reference.targets.values()],
        period_days=reference.period_days,
        days=days,
        engine=engine,
    )


def _scored(table: pa.Table, model: Model, profile: dict[str, Any], histograms: Histograms, sha256: str) -> Window:
    """The window of a sample of its rows; see Window for the arguments."""
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
        sha256=sha256,
        served=served,
    )


def _sample(rows: Path, schema: Schema, most: int, days: Days | None, engine: Engine | None) -> pa.Table:
    """Up to `most` rows, by the hash of their event id, or of time, user, item and scenario where there is no event."""
    with counting_engine(engine) as opened, connect(share=1 / 4) as connection:
        read_window(opened, "__sampled", rows, schema, days)
        ((total,),) = opened.rows("select count(*) from __sampled")
        share = min(most / max(total, 1), 1.0)
        impression = sql.columns((schema.timestamp, schema.user, schema.item, schema.scenario))
        event_id = sql.column(schema.event_id)
        drawn = f"case when {event_id} is null then hash({impression}) else hash({event_id}) end"
        where = "" if share == 1 else f" where {drawn} < {share} * 18446744073709551615::double"
        connection.register("sample", _read_sample(opened, where, rows, everywhere=engine is not None))
        return connection.execute(f"from sample order by {event_id} nulls last, {impression}").to_arrow_table()


def _read_sample(engine: Engine, where: str, rows: Path, *, everywhere: bool) -> pa.Table:
    """The rows of the relation `__sampled` that are drawn, here or `everywhere`: no engine but DuckDB has its hash."""
    types = schema_of(files_of(rows)[0])
    if not everywhere:
        own = list(engine.batches(f"select * from __sampled{where}"))
        return pa.Table.from_batches(own, None if own else types)
    parts = engine.mapped("select * from __sampled", partial(_drawn, where), types)
    return pa.Table.from_batches((part.cast(types) for part in parts), types)


def _drawn(where: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of the sample in batches of all rows, by DuckDB wherever this runs."""
    with connect(threads=1) as connection:
        for batch in batches:
            connection.register("batch", pa.Table.from_batches([batch]))
            yield from connection.execute(f"from batch{where}").to_arrow_table().to_batches()


def _sha256(rows: Path) -> str:
    """SHA-256 over the checksums of the files, in the order of their names."""
    digest = hashlib.sha256()
    for checksum in checksums(rows) if is_stored(rows) else map(sha256_of, map(Path, files_of(rows))):
        digest.update(bytes.fromhex(checksum))
    return digest.hexdigest()
