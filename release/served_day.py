"""The impressions of a day with the features, and the probabilities, that the service would have had for them."""

import json
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
from numpy.typing import NDArray

from common import params, stage
from common.diagnosis import check_whole
from common.errors import ReleaseError, SourceError
from common.files import sha256_of, write_text
from common.run_identity import this_run
from common.settings import read_settings
from features.engine.arrow_types import arrow_schema
from features.schema import Schema, read_schema, read_views
from features.store.definitions import open_store
from features.store.point_in_time import join_features
from models.evaluation.accuracy import probabilities_of
from models.model_folder import Model, read_model
from release.comparison import compare, score
from release.parity import TIMEOUT_MS, compare_probabilities, copy_online, serve
from release.policy import ChallengerMetrics
from serving.ranking.feature_client import with_read_timeout
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from serving.telemetry.impression_log import MODEL, SCORE

SERVED, METRICS = "served.parquet", "figures.json"


class ServedDay:
    """A day of a log, its offline features, and the online store as it was materialized up to `as_of` (UTC)."""

    def __init__(self, *, day: date, schema: Path, features: Path, online: Path, as_of: datetime) -> None:
        self.day, self.features, self.online, self.as_of = day, features, online, _without_zone(as_of)
        self.schema, self.views = read_schema(schema), read_views(features / "views.json")
        self.settings = params.load()

    def replay(self, events: Path, *, model: Path, baseline: Path, out: Path) -> str:
        """Write the day by the model in the folder `model`, and its metrics beside those of `baseline`; a summary."""
        torch.set_num_threads(stage.threads())
        if read_settings().redis is None:
            check_whole({"online": self.online})  # of a day before its timestamp nothing is read of it
        champion, impressions = read_model(model), impressions_of(events, self.schema, self.day)
        out.mkdir(parents=True, exist_ok=True)
        (out / METRICS).unlink(missing_ok=True)
        with TemporaryDirectory() as scratch:
            rows = Path(scratch) / SERVED
            self._join(impressions, rows)
            probabilities = probabilities_of(score(champion, rows), self.schema.tasks, champion.encoder.targets)
            checked = self._check(champion, model, rows, probabilities)
            metrics = compare(champion, read_model(baseline), rows, self.settings.release.confidence)
            pq.write_table(_with_scores(pq.read_table(rows), probabilities, champion), out / SERVED)
        document = to_json(metrics) | {"checked": checked} | this_run(sha256_of(out / SERVED)).block()
        write_text(out / METRICS, json.dumps(document, indent=1, allow_nan=False) + "\n")
        return (
            f"{self.day}: {metrics.rows:,} impressions by {champion.tag}, mean of the cells {metrics.mean:.4f}, "
            f"{metrics.gain.value:+.4f} against {metrics.champion}; {checked:,} of them sent to the ranker"
        )

    def _join(self, impressions: pa.Table, path: Path) -> None:
        """Write the impressions (in order of their ids) with their features as of them, but no later than `as_of`."""
        index = impressions.schema.get_field_index(self.schema.timestamp)
        field, timestamps = impressions.schema.field(index), impressions[self.schema.timestamp]
        known_at = pc.min_element_wise(timestamps, pa.scalar(self.as_of, field.type))
        bounded = impressions.set_column(index, field, known_at)
        with TemporaryDirectory() as scratch:
            unused, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
            store = open_store(self.schema, self.views, features=self.features, online=unused, registry=registry)
            joined = join_features(store, self.schema, self.views, bounded)
        index = joined.schema.get_field_index(self.schema.timestamp)
        pq.write_table(joined.set_column(index, joined.schema.field(index), timestamps), path)

    def _check(self, champion: Model, folder: Path, rows: Path, probabilities: NDArray[np.float64]) -> int:
        """Send a sample of the rows from `as_of` on to a ranker on the online store; returns the size of the sample.

        Raises ReleaseError where an answer differs from its row of `probabilities` [N, O].
        """
        schema = champion.schema
        table = pq.read_table(rows, columns=[column.name for column in schema.events])
        later = np.flatnonzero(pc.greater_equal(table[schema.timestamp], self.as_of).to_numpy())
        if not len(later):
            return 0
        size = min(self.settings.release.sample, len(later))
        sample = later[np.linspace(0, len(later) - 1, size).astype(np.int64)]
        with TemporaryDirectory() as scratch:
            redis = read_settings().redis
            online, registry = copy_online(self.online, Path(scratch), redis=redis), Path(scratch) / "registry.db"
            sources = ModelSources(folder, online, registry, redis)
            ranker = open_ranker(sources, with_read_timeout(self.settings.serve, TIMEOUT_MS))
            ranker.clock = self.as_of.replace(tzinfo=UTC).timestamp
            accepted = request_type(schema, self.settings.serve, champion.views)
            answers = serve(ranker, table.take(sample), accepted)
            rule = compare_probabilities(probabilities[sample], answers, champion)
        if not rule.passed:
            raise ReleaseError(
                f"{self.online} as of {self.as_of:%Y-%m-%d %H:%M}: {rule.sentence}; run python -m flows.materialize"
            )
        return len(sample)


def impressions_of(events: Path, schema: Schema, day: date) -> pa.Table:
    """The events of a day, in order of their ids; raises SourceError where there are none."""
    files = sorted((events / f"day={day}").glob("*.parquet"))
    if not files:
        raise SourceError(f"{events} holds no impressions of {day}: expected a folder day={day}")
    return pq.read_table(files, schema=arrow_schema(schema.events), partitioning=None).sort_by(schema.event_id)


def to_json(metrics: ChallengerMetrics) -> dict[str, Any]:
    """The metrics as a JSON document: of the model, of `frozen`, and the gain with its interval, by cell and mean."""
    return {
        "rows": metrics.rows,
        "mean": metrics.mean,
        "frozen": metrics.mean - metrics.gain.value,
        "gain": asdict(metrics.gain),
        "cells": {
            cell.name: {"model": cell.challenger, "frozen": cell.champion, "gain": cell.gain and asdict(cell.gain)}
            for cell in metrics.cells
        },
    }


def _with_scores(rows: pa.Table, probabilities: NDArray[np.float64], model: Model) -> pa.Table:
    for index, name in enumerate(model.schema.output_names):
        rows = rows.append_column(SCORE + name, pa.array(probabilities[:, index]))
    return rows.append_column(MODEL, pa.repeat(model.tag, rows.num_rows))


def _without_zone(timestamp: datetime) -> datetime:
    """UTC without its zone, as in the rows."""
    return timestamp if timestamp.tzinfo is None else timestamp.astimezone(UTC).replace(tzinfo=None)
