"""A loaded model: everything that an answer is made of: network, item catalogue, and access to the user features.

It is immutable. A newer model or snapshot becomes another LoadedModel, so that no answer mixes two.
"""

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
from features.schema import Column, Schema, newest_day
from features.store.definitions import open_store
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from models.model_folder import Model, read_model
from serving.ranking.fallback import FallbackScores
from serving.ranking.feature_client import UserFeatures
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex, encoder_columns
from serving.ranking.scorer import Scorer

FileStamps = tuple[tuple[str, int, int, int], ...]  # of each file: path, inode, size, mtime in nanoseconds


@dataclass(frozen=True)
class ModelSources:
    """Where a model is loaded from: its folder (or a link to it), the online store, and a file for Feast's registry.

    The item snapshot lies in the folder of `online`. With `redis`, Redis is the online store, and `online` only names
    that folder.
    """

    model: Path
    online: Path
    registry: Path
    redis: str | None = None

    def stamps(self) -> tuple[FileStamps, FileStamps, FileStamps]:
        """The file stamps of the model, the snapshot and the online store; equal while no file is replaced.

        The online store is changed while it is in use, so only its inode counts.
        """
        folder = self.model.resolve()
        online = tuple((path, inode, 0, 0) for path, inode, *_ in _stamps([self.online.resolve()]))
        return _stamps(sorted(folder.glob("*"))), _stamps([item_snapshot_path(self.online)]), online


@dataclass(frozen=True)
class LoadedModel:
    """A model with its items and feature access; a request is answered from one LoadedModel."""

    model: Model
    catalogue: ItemCatalogue
    scorer: Scorer
    users: UserFeatures
    encoder: RequestEncoder
    fallback: FallbackScores
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
        """The encoded rows [N, ..] of items with other values in some columns; None without overrides."""
        if not overrides:
            return None
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

    Raises ModelError or SnapshotError where a file is damaged, and ModelError where the model has another schema than
    `previous`: the request type of the running service was made from that schema.
    """
    stamps = sources.stamps()
    model = _read_model(sources, stamps, previous)
    catalogue = ItemCatalogue(model, read_snapshot(item_snapshot_path(sources.online), model.schema, model.views))
    return LoadedModel(
        model=model,
        catalogue=catalogue,
        scorer=Scorer(model, catalogue, megabytes=settings.partial_activations_megabytes),
        users=_reusable_users(model, stamps, previous) or _open_users(model, sources, settings),
        encoder=RequestEncoder(model.encoder, _names(model) - set(catalogue.rows.column_names)),
        fallback=FallbackScores(model, sources.model.resolve(), catalogue),
        sources=sources,
        stamps=stamps,
    )


def _read_model(
    sources: ModelSources, stamps: tuple[FileStamps, FileStamps, FileStamps], previous: LoadedModel | None
) -> Model:
    if previous is None:
        return read_model(sources.model.resolve())
    model = previous.model if previous.stamps[0] == stamps[0] else read_model(sources.model.resolve())
    if model.schema.fingerprint() != previous.schema.fingerprint():
        raise ModelError(
            f"{sources.model}: the model {model.tag} has another schema than {previous.model.tag}, with which this "
            "service was started: restart the service"
        )
    return model


def _reusable_users(
    model: Model, stamps: tuple[FileStamps, FileStamps, FileStamps], previous: LoadedModel | None
) -> UserFeatures | None:
    """The previous access to the user features, if it reads the same store for the same columns."""
    if previous is None or previous.stamps[2] != stamps[2] or previous.model.views != model.views:
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
    names = _names(model) | {day.name for day in _newest_days(model)}
    return UserFeatures(store, model.schema, model.views, names, settings.store)


def _names(model: Model) -> frozenset[str]:
    return frozenset(column.name for column in model.encoder.columns)


def _newest_days(model: Model) -> tuple[Column, ...]:
    """The columns with the day of the newest value of each sequence that the model reads."""
    wanted = {newest_day(column.name) for column in model.encoder.columns}
    return tuple(column for view in model.views for column in view.columns if column.name in wanted)


def _stamps(paths: Sequence[Path]) -> FileStamps:
    stats = ((path, path.stat()) for path in paths if path.exists())
    return tuple((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
