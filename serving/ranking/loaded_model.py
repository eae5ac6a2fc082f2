"""A loaded model: everything that an answer is made of: network, item catalogue, and access to the user features.

It is immutable. A newer model or snapshot becomes another LoadedModel, so that no answer mixes two.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.errors import ModelError
from common.serve_params import Serve
from features.encoding.encoder import Batch
from features.encoding.request_encoder import RequestEncoder
from features.engine.arrow_types import arrow_schema
from features.engine.session_view import session_views
from features.schema import Column, Schema, newest_day
from features.store.definitions import FeatureStore, open_store
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from features.store.live_sessions import open_live_store
from models.model_folder import Model, read_model
from serving.ranking.fallback import FallbackScores
from serving.ranking.feature_client import UserFeatures
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex, encoder_columns
from serving.ranking.model_sources import FileStamps, ModelSources, fitting_sources
from serving.ranking.request import features_of
from serving.ranking.request_selection import seen_columns
from serving.ranking.scorer import Scorer
from serving.ranking.sessions import Sessions
from serving.ranking.unknown_values import UnknownValues

_LOGGER = logging.getLogger(__name__)


class OtherSchemaError(ModelError):
    """The model has another schema than the one with which the running service was started."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its items and feature access; a request is answered from one LoadedModel.

    `histories` are the columns of the user that list items. `sources` are the files that were read: the folder behind
    a link, and the online store that fits the model. `stamps` are those of the files that the service watches.
    """

    model: Model
    catalogue: ItemCatalogue
    scorer: Scorer
    users: UserFeatures
    sessions: Sessions
    encoder: RequestEncoder
    fallback: FallbackScores
    unknown: UnknownValues
    histories: tuple[str, ...]
    sources: ModelSources
    stamps: tuple[FileStamps, FileStamps, FileStamps]

    @property
    def schema(self) -> Schema:
        """The schema of the model."""
        return self.model.schema

    def item_rows(
        self, items: Sequence[Any], item_index: ItemIndex, overrides: Mapping[str, Sequence[Any]]
    ) -> pa.Table:
        """The rows [N] of the snapshot with these ids, and with other values in the overridden columns."""
        rows = self.catalogue.rows.take(item_index)
        values = {self.schema.item: items} | dict(overrides)
        for name, column in values.items():
            index = rows.schema.get_field_index(name)
            rows = rows.set_column(index, name, pa.array(column, rows.schema.field(name).type))
        return rows

    def encoder_rows(self, values: Mapping[str, Any], rows: pa.Table) -> pa.Table:
        """The rows [N] that the encoder reads: the user's values and the rows of the items."""
        return _join_user_and_items(encoder_columns(self.model), values, rows)

    def impression_rows(self, values: Mapping[str, Any], rows: pa.Table) -> pa.Table:
        """The rows [N] for the impression log: what the encoder reads, and the days of its sequences' newest values."""
        days = arrow_schema(_newest_days(self.model))
        return _join_user_and_items(pa.schema([*encoder_columns(self.model), *days]), values, rows)

    def encode_overridden(
        self, items: Sequence[Any], item_index: ItemIndex, overrides: Mapping[str, Sequence[Any]]
    ) -> Batch | None:
        """The encoded rows [N, ..] of items with other values in some columns; None where all are the catalogue's."""
        if not overrides:
            return self.catalogue.hashed(items, item_index)
        any_user = {self.schema.scenario: self.schema.scenarios[0]}
        return self.model.encoder.encode(self.encoder_rows(any_user, self.item_rows(items, item_index, overrides)))

    def missing_row(self, scenario: int) -> Batch:
        """A row [1, ..] of which only the scenario is known."""
        return self.scorer.join_rows(self.encoder.encode({}, scenario), np.array([len(self.catalogue.ids)]))


def _join_user_and_items(types: pa.Schema, values: Mapping[str, Any], rows: pa.Table) -> pa.Table:
    columns = [
        rows[field.name]
        if field.name in rows.column_names
        else pa.array([values.get(field.name)] * rows.num_rows, field.type)
        for field in types
    ]
    return pa.table(columns, schema=types)


def load_model(sources: ModelSources, settings: Serve, previous: LoadedModel | None = None) -> LoadedModel:
    """Load what lies at `sources` now; parts that have not changed since `previous` are reused.

    Raises ModelError or SnapshotError where a file is damaged, SnapshotError where no online store fits the model, and
    OtherSchemaError where the model has another schema than `previous`: the request type of the running service was
    made from that schema.
    """
    folder = sources.model.resolve()  # once: a release may exchange the link meanwhile
    sources = dataclasses.replace(sources, model=folder)
    stamps = sources.stamps()
    model = _read_model(folder, stamps, previous)
    fitting = _fitting(sources, model, previous)
    catalogue = ItemCatalogue(model, read_snapshot(item_snapshot_path(fitting.online), model.schema, model.views))
    return LoadedModel(
        model=model,
        catalogue=catalogue,
        scorer=Scorer(model, catalogue, megabytes=settings.partial_activations_megabytes),
        sessions=Sessions(model.schema, session_views(model.views), catalogue.rows.slice(0, len(catalogue.ids))),
        users=_reusable_users(model, fitting, stamps, previous) or _open_users(model, fitting, settings),
        encoder=RequestEncoder(model.encoder, _names(model) - set(catalogue.rows.column_names)),
        fallback=FallbackScores(model, folder, catalogue),
        unknown=UnknownValues(model, folder, catalogue),
        histories=_histories(model),
        sources=fitting,
        stamps=stamps,
    )


def _read_model(folder: Path, stamps: tuple[FileStamps, FileStamps, FileStamps], previous: LoadedModel | None) -> Model:
    if previous is None:
        return read_model(folder)
    model = previous.model if previous.stamps[0] == stamps[0] else read_model(folder)
    if model.schema.fingerprint() != previous.schema.fingerprint():
        raise OtherSchemaError(
            f"{folder}: the model {model.tag} has another schema than {previous.model.tag}, with which this "
            "service was started: restart the service"
        )
    return model


def _fitting(sources: ModelSources, model: Model, previous: LoadedModel | None) -> ModelSources:
    """The sources with an online store that fits the model: the one in use, else that of the model's release.

    A running service does not go back to the store of its release because the one in use is being replaced: what it
    has in memory is newer. Raises SnapshotError then.
    """
    fitting, reason = fitting_sources(sources, model.schema, model.views)
    if reason is None:
        return fitting
    if previous is not None and previous.sources.model == sources.model and previous.sources.online != fitting.online:
        raise reason
    _LOGGER.warning("model %s reads the online store of its release, %s: %s", model.tag, fitting.online, reason)
    return fitting


def _reusable_users(
    model: Model, sources: ModelSources, stamps: tuple[FileStamps, FileStamps, FileStamps], previous: LoadedModel | None
) -> UserFeatures | None:
    """The previous access to the user features, if it reads the same store for the same columns."""
    if previous is None or previous.stamps[2] != stamps[2] or previous.model.views != model.views:
        return None
    if any(getattr(previous.sources, name) != getattr(sources, name) for name in ("online", "redis", "events")):
        return None
    return previous.users if _names(previous.model) == _names(model) else None


def _open_users(model: Model, sources: ModelSources, settings: Serve) -> UserFeatures:
    features = sources.online.parent  # the offline store, which a service never reads
    store = open_store(
        model.schema,
        model.views,
        features=features,
        online=sources.online,
        registry=sources.registry,
        redis=sources.redis,
        reads=True,
    )
    names = _names(model) | {day.name for day in _newest_days(model)} | set(_histories(model))
    return UserFeatures(store, model.schema, model.views, names, settings.store, live=_open_live(model, sources))


def _open_live(model: Model, sources: ModelSources) -> FeatureStore | None:
    """The store of the events since the log; None where the model reads no sessions, or no events are kept."""
    views = session_views(model.views)
    if not views or sources.events is None:
        return None
    registry = sources.registry.with_name("live.db")
    return open_live_store(model.schema, views[0], folder=sources.events, registry=registry, redis=sources.redis)


def _names(model: Model) -> frozenset[str]:
    return frozenset(column.name for column in model.encoder.columns)


def _histories(model: Model) -> tuple[str, ...]:
    """The features of the user that list items, whether the model reads them or not."""
    return seen_columns(model.schema, features_of(model.schema, "users", model.views))


def _newest_days(model: Model) -> tuple[Column, ...]:
    """The columns with the day of the newest value of each sequence that the model reads."""
    wanted = {newest_day(column.name) for column in model.encoder.columns}
    return tuple(column for view in model.views for column in view.columns if column.name in wanted)
