"""The current window: its rows as histograms on the reference's bins, and what the model says of them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common import stage
from common.errors import SourceError
from features.encoding.histograms import Days, Histograms, count, selected
from features.encoding.tensors import Tensors, labels_of
from features.schema import Schema
from models.evaluation.accuracy import probabilities_of
from models.evaluation.predict import predict
from models.evaluation.reference_profile import score_cells
from models.model_folder import Model


@dataclass(frozen=True, kw_only=True)
class Window:
    """`histograms` of all rows; `scores` by "scenario/task" and labels and probabilities of up to `scored` rows.

    `served` says that the scores are those that were served at the time, and not what the model says of the rows now.
    """

    histograms: Histograms
    scores: dict[str, Any]
    labels: NDArray[np.float32]  # [N, T]
    probabilities: NDArray[np.float64]  # [N, O]
    scenario: NDArray[np.int32]  # [N]
    sha256: str
    served: bool


def open_window(
    rows: Path, model: Model, reference: Histograms, behaviour: dict[str, Any], *, most: int, days: Days | None = None
) -> Window:
    """The window of the Parquet file(s) `rows`: the columns of the training set, perhaps with `score_<task>`.

    Up to `most` rows, drawn by their event id, are scored; raises SourceError where a column is missing.
    """
    _check(rows, model, reference)
    found = count(rows, model.schema, model.encoder, reference.bins, period_days=reference.period_days, days=days)
    table = _sample(rows, model.schema, most, days)
    encoded = Tensors(
        **vars(model.encoder.encode(table)),
        labels=np.stack([labels_of(task, table[task.name]) for task in model.schema.tasks], axis=1),
        event_id=np.empty(0),
        user=np.empty(0),
    )
    names = [f"score_{name}" for name in model.schema.output_names]
    served = set(names) <= set(table.column_names)
    probabilities = (
        np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
        if served
        else probabilities_of(predict(model.network, encoded, model.name), model.schema.tasks)
    )
    edges = {cell: held["edges"] for cell, held in behaviour["scores"].items()}
    scores = score_cells(probabilities, encoded.labels, encoded.scenario, model.schema, edges)
    return Window(
        histograms=found,
        scores=scores,
        labels=encoded.labels,
        probabilities=probabilities,
        scenario=encoded.scenario,
        sha256=_sha256(rows),
        served=served,
    )


def _check(rows: Path, model: Model, reference: Histograms) -> None:
    """Refuse what is not a window of this model; raises SourceError."""
    files = sorted(rows.parent.glob(rows.name))
    if not files:
        raise SourceError(f"{rows} does not exist: --current is a Parquet file with the columns of the training set")
    try:
        with duckdb.connect() as connection:
            found = {name for name, *_ in connection.execute(f"describe {selected(rows, model.schema)}").fetchall()}
    except duckdb.Error as error:
        raise SourceError(f"{rows} cannot be read as Parquet: {error}") from error
    schema = model.schema
    wanted = {schema.timestamp, schema.event_id, *schema.task_names, *(bins.read for bins in reference.bins)}
    if wanted - found:
        raise SourceError(
            f"{rows} has no columns {sorted(wanted - found)}, which {model.name} {model.tag} was trained "
            "on: take a window of the same schema, or the model of this one"
        )


def _sample(rows: Path, schema: Schema, most: int, days: Days | None) -> pa.Table:
    """Up to `most` rows, by the hash of their event id, or of what stands for it while no event has come of them."""
    with duckdb.connect(config={"memory_limit": "1500MB", "threads": stage.threads()}) as connection:
        source = selected(rows, schema, days)
        (total,) = connection.execute(f"select count(*) from ({source})").fetchone() or (0,)
        share = min(most / max(total, 1), 1.0)
        served = ", ".join(f'"{name}"' for name in (schema.timestamp, schema.user, schema.item, schema.scenario))
        drawn = f'case when "{schema.event_id}" is null then hash({served}) else hash("{schema.event_id}") end'
        where = "" if share == 1 else f" where {drawn} < {share} * 18446744073709551615::double"
        return connection.execute(
            f'from ({source}){where} order by "{schema.event_id}" nulls last, {served}'
        ).to_arrow_table()


def _sha256(rows: Path) -> str:
    """Of the files one after the other, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(rows.parent.glob(rows.name)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
