"""What is served is what was trained: three equalities, held on the stores as they are before a release.

Online features are the offline features as of the same moment; the encoder of the model is the trained one, and makes
of the test rows the tensors; what the service answers is what the model predicts of the same rows.
"""

import filecmp
import os
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
from feast import FeatureStore
from numpy.typing import NDArray
from scipy.special import logit

from common.params import Params
from features.encoding.tensors import open_tensors
from features.engine.arrow_types import arrow_schema
from features.inspect_online import check_online, check_snapshot
from features.join import join_features
from features.materialize import newest_snapshot
from features.schema import Schema
from features.store.definitions import REDIS, open_store
from features.store.item_snapshot import read_snapshot, snapshot_beside
from models.evaluation.accuracy import probabilities_of
from models.model_folder import FILES, MODEL, Model
from release.comparison import Stores, score
from release.policy import Rule
from serving.http.response import answer_of
from serving.ranking.feature_client import patient
from serving.ranking.loaded_model import Sources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import RankRequest, request_type

EDGE = np.finfo(np.float64).eps
PATIENCE = 60_000.0  # ms for a read of the online store: here a late answer is better than one without it
TOLERANCE = 1e-5  # of a logit, absolute and relative: the two ways add up float32 in other orders


def check_equalities(model: Model, stores: Stores, settings: Params) -> Iterator[Rule]:
    """A rule for each equality, and one for the bento holding this very model."""
    yield check_bento(stores)
    yield check_encoder(model, stores)
    read_snapshot(snapshot_beside(stores.online), model.schema, model.views)  # or say what is wrong with it
    with TemporaryDirectory() as scratch:
        copy, registry = copy_online(stores.online, Path(scratch)), Path(scratch) / "registry.db"
        redis = os.environ.get(REDIS)
        store = open_store(
            model.schema, model.views, features=stores.features, online=copy, registry=registry, redis=redis
        )
        yield check_features(store, model, stores, settings.inspect.sample)
        moment = stores.moment or newest_snapshot(model.views, stores.features)
        asked = draw(model.schema, stores.rows, settings.release.sample, moment)
        predicted = predict_offline(store, model, asked, Path(scratch) / "rows.parquet")
        sources = Sources(stores.packed, copy, Path(scratch) / "served.db", redis)
        ranker = open_ranker(sources, patient(settings.serve, PATIENCE))
        served = serve(ranker, asked, request_type(model.schema, settings.serve, model.views))
        yield compare_answers(predicted, served)


def copy_online(online: Path, scratch: Path) -> Path:
    """A copy of an online store and of the item snapshot beside it: Feast opens a store for writing."""
    copy = scratch / "online.db"
    if REDIS not in os.environ:
        copy_store(online, copy)
    shutil.copyfile(snapshot_beside(online), snapshot_beside(copy))
    return copy


def copy_store(online: Path, copy: Path) -> None:
    """A copy of a store that may be in use: a file alone lacks what its write-ahead log holds."""
    with (
        closing(sqlite3.connect(f"{online.resolve().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def check_bento(stores: Stores) -> Rule:
    """The model in the bento is the challenger, byte for byte."""
    names = [MODEL, *FILES]
    _, *other = filecmp.cmpfiles(stores.challenger, stores.packed, names, shallow=False)
    differing = sorted(name for group in other for name in group)
    told = f"the model in the bento {stores.bento} is that in {stores.challenger}"
    reason = f": other files {', '.join(differing)}; run `dvc repro package`" if differing else ""
    return Rule(name="bento", passed=not differing, sentence=told + reason)


def check_encoder(model: Model, stores: Stores) -> Rule:
    """The encoder of the model is the trained one, byte for byte, and makes of the test rows the test tensors."""
    told = f"the served encoder is the trained one, {stores.encoder}"
    if (stores.challenger / "encoder.json").read_bytes() != stores.encoder.read_bytes():
        return Rule(name="encoder", passed=False, sentence=f"{told}: it differs; run `dvc repro`")
    made, held = model.encoder.encode(pq.read_table(stores.rows)), open_tensors(stores.tensors / "test")
    differing = [name for name, values in vars(made).items() if not np.array_equal(values, getattr(held, name))]
    reason = f": it makes other tensors of {stores.rows}: {', '.join(differing)}" if differing else ""
    return Rule(name="encoder", passed=not differing, sentence=told + reason)


def check_features(store: FeatureStore, model: Model, stores: Stores, sample: int) -> Rule:
    """Online features are the offline features as of the same moment, for a sample of the entities of each view."""
    asked = (model.schema, model.views, stores.features, sample)
    suites = check_online(store, *asked, moment=stores.moment)
    suites.append(check_snapshot(snapshot_beside(stores.online), *asked, moment=stores.moment))
    faults = [
        f"{suite.name}: {fault.rule.sentence}, found {fault.examples}" for suite in suites for fault in suite.faults
    ]
    told = f"online features are the offline features, for {sum(suite.rows for suite in suites):,} entities"
    reason = f": not so: {'; '.join(faults)}" if faults else ""
    return Rule(name="features", passed=not faults, sentence=told + reason)


def draw(schema: Schema, rows: Path, sample: int, moment: datetime) -> pa.Table:
    """The events of up to `sample` of the rows, evenly spaced, all at `moment`, with ids of their own."""
    types = arrow_schema(schema.events)
    events = pq.read_table(rows, columns=types.names).select(types.names)
    taken = events.take(np.linspace(0, events.num_rows - 1, min(sample, events.num_rows)).astype(np.int64))
    place = {name: taken.schema.get_field_index(name) for name in (schema.timestamp, schema.event_id)}
    moments = pa.array(
        [moment.astimezone(UTC).replace(tzinfo=None)] * taken.num_rows, types.field(schema.timestamp).type
    )
    taken = taken.set_column(place[schema.timestamp], schema.timestamp, moments)
    ids = pa.array(range(taken.num_rows), types.field(schema.event_id).type)
    return taken.set_column(place[schema.event_id], schema.event_id, ids).cast(types)


def predict_offline(store: FeatureStore, model: Model, asked: pa.Table, scratch: Path) -> NDArray[np.float64]:
    """Probabilities [N, O] of the events by the way of training: point-in-time join, encoder, `predict`."""
    pq.write_table(join_features(store, model.schema, model.views, asked), scratch)
    return probabilities_of(score(model, scratch), model.schema.tasks)


def serve(ranker: Ranker, asked: pa.Table, accepted: type[RankRequest]) -> NDArray[np.float64]:
    """Probabilities [N, O] of the events by the way of the service: a request each, from JSON to JSON."""
    schema = ranker.state.schema
    context = [column.name for column in schema.context]
    found = []
    for event in asked.to_pylist():
        request = _request(schema, event, {name: event[name] for name in context})
        answer = orjson.loads(answer_of(ranker.rank(accepted.model_validate_json(orjson.dumps(request)))))
        found.append([answer["probabilities"][name][0] for name in schema.output_names])
    return np.array(found).reshape(-1, len(schema.output_names))


def compare_answers(predicted: NDArray[np.float64], served: NDArray[np.float64]) -> Rule:
    """The logits behind the served probabilities [N, O] are those of the predicted ones."""
    one, other = (logit(np.clip(part, EDGE, 1 - EDGE)) for part in (predicted, served))
    differing = int((~np.isclose(other, one, rtol=TOLERANCE, atol=TOLERANCE)).any(axis=1).sum())
    told = f"the service says of {len(one):,} rows what the model predicts"
    reason = f": not so for {differing}, by up to {np.abs(one - other).max():.3g} of a logit" if differing else ""
    return Rule(name="answers", passed=not differing and len(one) > 0, sentence=told + reason)


def _request(schema: Schema, event: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    names = {"user_id": schema.user, "scenario": schema.scenario}
    return {field: event[name] for field, name in names.items()} | {
        "candidates": [event[schema.item]],
        "context": context,
    }
