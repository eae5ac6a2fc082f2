"""A day of a log as the service would have answered it: what a model says of every impression, features of the moment.

    python -m release.replay --day 2026-01-14 --events DIR --schema data/schema.json --features data/features \
      --online artifacts/serving/online.db --moment 2026-01-14T01:00 --model artifacts/releases/champion/model \
      --frozen DIR --out DIR

Features are those of the impression, but none that came after the online store was filled, such as a new item's at
noon. A sample is asked of a ranker on that store as well; what it answers has to be what stands in the file.
"""

import json
import os
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from feast import FeatureStore
from numpy.typing import NDArray

from common import params, stage
from common.errors import ReleaseError, SourceError
from features.engine.arrow_types import arrow_schema
from features.join import BATCH_ROWS, join_features
from features.schema import Schema, View, read_schema, read_views
from features.store.definitions import REDIS, open_store
from models.evaluation.accuracy import probabilities_of
from models.model_folder import Model, read_model
from release.comparison import compare, score
from release.parity import PATIENCE, compare_answers, copy_online, serve
from release.policy import Figures
from serving.ranking.feature_client import patient
from serving.ranking.loaded_model import Sources
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from serving.telemetry.impression_log import MODEL, SCORE

SERVED, FIGURES = "served.parquet", "figures.json"


def replay(
    *,
    day: date,
    events: Path,
    schema: Path,
    features: Path,
    online: Path,
    moment: datetime,
    model: Path,
    frozen: Path,
    out: Path,
) -> None:
    """Write the impressions of `day` (UTC; under `events`) as the model in `model` answers them to `out`.

    served.parquet has the columns of a served window, figures.json what the model comes to on them, beside `frozen`.
    `online` was filled up to `moment`. Raises ReleaseError where a ranker on it answers otherwise.
    """
    torch.set_num_threads(stage.threads())
    declared, views, settings = read_schema(schema), read_views(features / "views.json"), params.load()
    champion, asked = read_model(model), impressions(events, declared, day)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        rows, none, registry = (Path(scratch) / name for name in (SERVED, "none.db", "offline.db"))
        store = open_store(declared, views, features=features, online=none, registry=registry)
        _join(store, declared, views, asked, moment, rows)
        probabilities = probabilities_of(score(champion, rows), declared.tasks)
        checked = check(champion, model, online, moment, rows, probabilities, settings, Path(scratch))
        figures = compare(champion, read_model(frozen), rows, settings.release.confidence)
        pq.write_table(_with_scores(pq.read_table(rows), probabilities, champion), out / SERVED)
    told = plain(figures) | {"checked": checked}
    (out / FIGURES).write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    print(
        f"{day}: {figures.rows:,} impressions by {champion.tag}, mean of the cells {figures.mean:.4f}, "
        f"{figures.gain.value:+.4f} against {figures.champion}; {checked:,} asked of the ranker"
    )


def impressions(events: Path, schema: Schema, day: date) -> pa.Table:
    """The events of a day, in order of their ids; raises SourceError where there are none."""
    files = sorted((events / f"day={day}").glob("*.parquet"))
    if not files:
        raise SourceError(f"{events} holds no impressions of {day}: expected a folder day={day}")
    return pq.read_table(files, schema=arrow_schema(schema.events), partitioning=None).sort_by(schema.event_id)


def _join(
    store: FeatureStore, schema: Schema, views: tuple[View, ...], asked: pa.Table, moment: datetime, path: Path
) -> None:
    """The impressions (in order of their ids) with their features as of their moments, but no later than `moment`."""
    place = asked.schema.get_field_index(schema.timestamp)
    field, moments = asked.schema.field(place), asked[schema.timestamp]
    known = asked.set_column(place, field, pc.min_element_wise(moments, pa.scalar(_naive(moment), field.type)))
    parts = (known.slice(start, BATCH_ROWS) for start in range(0, known.num_rows, BATCH_ROWS))
    joined = pa.concat_tables([join_features(store, schema, views, part) for part in parts])
    place = joined.schema.get_field_index(schema.timestamp)
    pq.write_table(joined.set_column(place, joined.schema.field(place), moments), path)


def check(
    champion: Model,
    folder: Path,
    online: Path,
    moment: datetime,
    rows: Path,
    probabilities: NDArray[np.float64],
    settings: params.Params,
    scratch: Path,
) -> int:
    """Ask a sample of the rows from `moment` on of a ranker on the online store; how many were asked.

    Raises ReleaseError where an answer is not among `probabilities` [N, O].
    """
    table = pq.read_table(rows, columns=[column.name for column in champion.schema.events])
    later = np.flatnonzero(pc.greater_equal(table[champion.schema.timestamp], _naive(moment)).to_numpy())
    if not len(later):
        return 0
    drawn = later[np.linspace(0, len(later) - 1, min(settings.release.sample, len(later))).astype(np.int64)]
    sources = Sources(folder, copy_online(online, scratch), scratch / "online_registry.db", os.environ.get(REDIS))
    accepted = request_type(champion.schema, settings.serve, champion.views)
    answers = serve(open_ranker(sources, patient(settings.serve, PATIENCE)), table.take(drawn), accepted)
    found = compare_answers(probabilities[drawn], answers)
    if not found.passed:
        raise ReleaseError(f"{online} as of {moment:%Y-%m-%d %H:%M}: {found.sentence}; run python -m flows.materialize")
    return len(drawn)


def plain(figures: Figures) -> dict[str, Any]:
    """The figures as JSON has them: the model, `frozen`, the gain and its interval, by cell and in the mean."""
    return {
        "rows": figures.rows,
        "mean": figures.mean,
        "frozen": figures.mean - figures.gain.value,
        "gain": asdict(figures.gain),
        "cells": {
            cell.name: {"model": cell.challenger, "frozen": cell.champion, "gain": cell.gain and asdict(cell.gain)}
            for cell in figures.cells
        },
    }


def _with_scores(rows: pa.Table, probabilities: NDArray[np.float64], model: Model) -> pa.Table:
    for place, name in enumerate(model.schema.output_names):
        rows = rows.append_column(SCORE + name, pa.array(probabilities[:, place]))
    return rows.append_column(MODEL, pa.repeat(model.tag, rows.num_rows))


def _naive(moment: datetime) -> datetime:
    """UTC, without saying so: as the rows have it."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


if __name__ == "__main__":
    stage.run(replay)
