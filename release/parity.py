"""The training/serving parity checks of a release, on the stores as they are before it.

Online features equal the offline features as of the same timestamp; the encoder of the model is the trained one and
turns the test rows into the test tensors; the service's probabilities are those that the model predicts offline.
"""

import filecmp
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import logit

from common.params import Params
from common.paths import SERVING_STORE
from common.settings import read_settings
from common.stored_files import read_table
from features.encoding.tensors import open_tensors
from features.engine.arrow_types import arrow_schema
from features.quality.online_store import check_online, check_snapshot
from features.schema import Schema, to_json
from features.store.definitions import FeatureStore, open_store
from features.store.item_snapshot import declared_in, item_snapshot_path, missing_columns, read_snapshot
from features.store.offline_store import newest_timestamp
from features.store.point_in_time import join_features
from features.store.redis_errors import expected_kind
from models.evaluation.accuracy import probabilities_of
from models.model_folder import CALIBRATION, FILES, MODEL, Model
from release.candidate import Candidate
from release.comparison import score
from release.policy import Rule
from serving.http.response import ranking_json
from serving.ranking.feature_client import with_read_timeout
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import RankRequest, request_type

EDGE = np.finfo(np.float64).eps
TIMEOUT_MS = 60_000.0  # of a read of the online store: here a late answer is better than one without features
TOLERANCE = 1e-5  # of a logit, absolute and relative: the two ways add up float32 in other orders


def check_parity(model: Model, candidate: Candidate, settings: Params) -> Iterator[Rule]:
    """A rule for each parity check, and one for the bento, which must hold the same model.

    Raises SnapshotError where the item snapshot of the online store is missing or damaged, and ParameterError where
    HINET_REDIS names a cluster as a single Redis, or the reverse.
    """
    yield check_bento(candidate)
    yield check_encoder(model, candidate)
    read_snapshot(item_snapshot_path(candidate.online), model.schema, model.views)
    with expected_kind(), TemporaryDirectory() as scratch:
        redis = redis_in_use(model)
        copy = copy_online(candidate.online, Path(scratch), redis=redis)
        registry = Path(scratch) / "registry.db"
        store = open_store(
            model.schema, model.views, features=candidate.features, online=copy, registry=registry, redis=redis
        )
        yield check_features(store, model, candidate, settings.inspect.sample)
        as_of = candidate.as_of or newest_timestamp(model.views, candidate.features)
        events = sample_events(model.schema, candidate.test_rows, settings.release.sample, as_of)
        offline = predict_offline(store, model, events, Path(scratch) / "rows.parquet")
        sources = ModelSources(candidate.bento_model, copy, Path(scratch) / "served.db", redis)
        ranker = open_ranker(sources, with_read_timeout(settings.serve, TIMEOUT_MS))
        ranker.clock = as_of.timestamp
        online = serve(ranker, events, request_type(model.schema, settings.serve, model.views))
        yield compare_probabilities(offline, online, model)


def redis_in_use(model: Model) -> str | None:
    """The Redis that a service on `model` will read; None where there is none, or where it holds other features.

    It does after a change of the schema or of the views, while the champion reads it. Then a service on the challenger
    starts with the SQLite store of its release, so that this one is checked. The item snapshot that the refresh of the
    Redis left says what it holds.
    """
    settings, needed = read_settings(), to_json(model.views)
    if settings.redis is None:
        return None
    for online in (settings.online_store, SERVING_STORE):
        held = declared_in(item_snapshot_path(online))
        if held is not None and (held[0] != model.schema.fingerprint() or missing_columns(needed, held[1])):
            return None
    return settings.redis


def copy_online(online: Path, scratch: Path, *, redis: str | None) -> Path:
    """A copy of an online store and of its item snapshot, because Feast opens a store for writing.

    Of the snapshot only where `redis` is the store.
    """
    copy = scratch / "online.db"
    if redis is None:
        copy_store(online, copy)
    shutil.copyfile(item_snapshot_path(online), item_snapshot_path(copy))
    return copy


def copy_store(online: Path, copy: Path) -> None:
    """A copy of a SQLite store that may be in use, with the content of its write-ahead log."""
    with (
        closing(sqlite3.connect(f"{online.resolve().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def check_bento(candidate: Candidate) -> Rule:
    """The model in the bento is the challenger, byte for byte."""
    names = [MODEL, *FILES]
    if (candidate.model / CALIBRATION).exists():
        names.append(CALIBRATION)
    _, *groups = filecmp.cmpfiles(candidate.model, candidate.bento_model, names, shallow=False)
    differing = sorted(name for group in groups for name in group)
    text = f"the model in the bento {candidate.bento} is that in {candidate.model}"
    reason = f": other files {', '.join(differing)}; run `dvc repro package`" if differing else ""
    return Rule(name="bento", passed=not differing, sentence=text + reason)


def check_encoder(model: Model, candidate: Candidate) -> Rule:
    """The encoder of the model is the trained one, byte for byte, and turns the test rows into the test tensors."""
    text = f"the served encoder is the trained one, {candidate.encoder}"
    if (candidate.model / "encoder.parquet").read_bytes() != candidate.encoder.read_bytes():
        return Rule(name="encoder", passed=False, sentence=f"{text}: it differs; run `dvc repro`")
    encoded = model.encoder.encode(read_table(candidate.test_rows))
    tensors = open_tensors(candidate.tensors / "test")
    differing = [name for name, values in vars(encoded).items() if not np.array_equal(values, getattr(tensors, name))]
    reason = f": it makes other tensors of {candidate.test_rows}: {', '.join(differing)}" if differing else ""
    return Rule(name="encoder", passed=not differing, sentence=text + reason)


def check_features(store: FeatureStore, model: Model, candidate: Candidate, sample: int) -> Rule:
    """Online features equal the offline features as of the same timestamp, for a sample of each view's entities."""
    arguments = (model.schema, model.views, candidate.features, sample)
    suites = check_online(store, *arguments, as_of=candidate.as_of)
    items = read_snapshot(item_snapshot_path(candidate.online), model.schema, model.views).rows
    suites.append(check_snapshot(items, *arguments, as_of=candidate.as_of))
    faults = [
        f"{suite.name}: {fault.rule.sentence}, found {fault.examples}" for suite in suites for fault in suite.faults
    ]
    text = f"online features equal the offline features, for {sum(suite.rows for suite in suites):,} entities"
    reason = f": they differ: {'; '.join(faults)}" if faults else ""
    return Rule(name="features", passed=not faults, sentence=text + reason)


def sample_events(schema: Schema, rows: Path, sample: int, as_of: datetime) -> pa.Table:
    """The events of up to `sample` of the rows, evenly spaced, with the timestamp `as_of` and new ids."""
    types = arrow_schema(schema.events)
    events = read_table(rows, types.names).select(types.names)
    taken = events.take(np.linspace(0, events.num_rows - 1, min(sample, events.num_rows)).astype(np.int64))
    timestamp = as_of.astimezone(UTC).replace(tzinfo=None)
    new = {schema.timestamp: [timestamp] * taken.num_rows, schema.event_id: range(taken.num_rows)}
    for name, values in new.items():
        taken = taken.set_column(taken.schema.get_field_index(name), name, pa.array(values, types.field(name).type))
    return taken.cast(types)


def predict_offline(store: FeatureStore, model: Model, events: pa.Table, scratch: Path) -> NDArray[np.float64]:
    """Probabilities [N, O] of the events as in training: point-in-time join, encoder, `predict`."""
    pq.write_table(join_features(store, model.schema, model.views, events), scratch)
    return probabilities_of(score(model, scratch), model.schema.tasks, model.encoder.targets)


def serve(ranker: Ranker, events: pa.Table, accepted: type[RankRequest]) -> NDArray[np.float64]:
    """Probabilities [N, O] of the events as in the service: a request each, from JSON to JSON."""
    schema = ranker.loaded.schema
    context = [column.name for column in schema.context]
    probabilities = []
    for event in events.to_pylist():
        request = _request(schema, event, {name: event[name] for name in context})
        answer = orjson.loads(ranking_json(ranker.rank(accepted.model_validate_json(orjson.dumps(request)))))
        values = answer["probabilities"] | answer.get("expected", {})
        probabilities.append([values[name][0] for name in schema.output_names])
    return np.array(probabilities).reshape(-1, len(schema.output_names))


def compare_probabilities(offline: NDArray[np.float64], online: NDArray[np.float64], model: Model) -> Rule:
    """The logits behind the service's probabilities [N, O] equal those behind the model's offline ones.

    Expected values of regression tasks are compared in standard deviations.
    """
    predicted, served = (_comparable(part, model) for part in (offline, online))
    differing = int((~np.isclose(served, predicted, rtol=TOLERANCE, atol=TOLERANCE)).any(axis=1).sum())
    text = f"the service answers {len(predicted):,} rows with the model's predictions"
    largest = np.abs(predicted - served).max() if differing else 0.0
    unit = "a logit, or of a standard deviation" if model.encoder.targets else "a logit"
    reason = f": {differing} rows differ, by up to {largest:.3g} of {unit}" if differing else ""
    return Rule(name="answers", passed=not differing and len(predicted) > 0, sentence=text + reason)


def _comparable(values: NDArray[np.float64], model: Model) -> NDArray[np.float64]:
    """The logits of probabilities, and expected values in standard deviations [N, O]."""
    columns = zip(model.schema.output_names, values.T, strict=True)
    targets = model.encoder.targets
    parts = [
        targets[name].standardised(column) if name in targets else logit(np.clip(column, EDGE, 1 - EDGE))
        for name, column in columns
    ]
    return np.stack(parts, axis=1)


def _request(schema: Schema, event: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    names = {"user_id": schema.user, "scenario": schema.scenario}
    return {field: event[name] for field, name in names.items()} | {
        "candidates": [event[schema.item]],
        "context": context,
    }
