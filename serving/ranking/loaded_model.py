"""Everything that an answer is made of: a model, the items of one snapshot, and the way to the users' features.

A state is never changed: a newer model or snapshot is another state, so that no answer can mix two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.errors import ModelError
from common.params import Serve
from features.encoding.encoder import Batch
from features.encoding.request_encoder import RowEncoder
from features.engine.arrow_types import arrow_schema
from features.schema import Column, Schema, newest_day
from features.store.definitions import open_store
from features.store.item_snapshot import read_snapshot, snapshot_beside
from models.model_folder import Model, read_model
from serving.ranking.fallback import Priors
from serving.ranking.feature_client import UserFeatures
from serving.ranking.item_catalogue import Catalogue, Places, whole_columns
from serving.ranking.scorer import Scorer

Stamp = tuple[tuple[str, int, int, int], ...]  # of files: path, inode, size, nanoseconds of the last change


@dataclass(frozen=True)
class Sources:
    """Where a state comes from: the model folder (or a link to it), the online store, and a file for Feast's registry.

    Beside the online store lies the item snapshot. With `redis` that is the online store, and `online` no more than a
    name for what lies beside it.
    """

    model: Path
    online: Path
    registry: Path
    redis: str | None = None

    def stamp(self) -> tuple[Stamp, Stamp, Stamp]:
        """What the files of the model, the snapshot and the online store are now; equal where nothing was exchanged.

        The online store is changed in place while it is in use: only its inode counts, and only where the snapshot is
        another, too: whoever makes a store from nothing writes the snapshot last.
        """
        folder = self.model.resolve()
        online = _stamp([self.online.resolve()])
        in_place = tuple((path, inode, 0, 0) for path, inode, *_ in online)
        return _stamp(sorted(folder.glob("*"))), _stamp([snapshot_beside(self.online)]), in_place


@dataclass(frozen=True)
class State:
    """What a request takes once, and is answered from."""

    model: Model
    catalogue: Catalogue
    scorer: Scorer
    users: UserFeatures
    encoder: RowEncoder
    priors: Priors
    sources: Sources
    stamp: tuple[Stamp, Stamp, Stamp]

    @property
    def schema(self) -> Schema:
        """The schema of the model."""
        return self.model.schema

    def items(self, items: Sequence[Any], places: Places, overrides: Mapping[str, Sequence[Any]]) -> pa.Table:
        """The rows of items as the snapshot has them, with these ids and with other values in some columns [N]."""
        rows = self.catalogue.rows.take(places)
        values = {self.schema.item: items} | dict(overrides)
        for name, column in values.items():
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, pa.array(column, rows.schema.field(name).type))
        return rows

    def seen(self, values: Mapping[str, Any], rows: pa.Table) -> pa.Table:
        """What the encoder sees of a request: the values of the user beside the rows of the items [N]."""
        return _laid_out(whole_columns(self.model), values, rows)

    def logged(self, values: Mapping[str, Any], rows: pa.Table) -> pa.Table:
        """What is kept of a request: what the encoder sees, and the days of the newest values of its sequences."""
        days = arrow_schema(_days(self.model))
        return _laid_out(pa.schema([*whole_columns(self.model), *days]), values, rows)

    def overridden(self, items: Sequence[Any], places: Places, overrides: Mapping[str, Sequence[Any]]) -> Batch | None:
        """The encoded rows of items with other values in some columns; None where there are none."""
        if not overrides:
            return None
        any_user = {self.schema.scenario: self.schema.scenarios[0]}
        return self.model.encoder.encode(self.seen(any_user, self.items(items, places, overrides)))

    def missing(self, scenario: int) -> Batch:
        """A row [1, ..] of which nothing but the scenario is known."""
        return self.scorer.joined(self.encoder.encode({}, scenario), np.array([len(self.catalogue.ids)]))


def _laid_out(types: pa.Schema, values: Mapping[str, Any], rows: pa.Table) -> pa.Table:
    columns = [
        rows[field.name]
        if field.name in rows.column_names
        else pa.array([values.get(field.name)] * rows.num_rows, field.type)
        for field in types
    ]
    return pa.table(columns, schema=types)


def open_state(sources: Sources, settings: Serve, before: State | None = None) -> State:
    """The state of `sources` as they are now; raises ModelError or SnapshotError where one of them is damaged.

    What has not changed since `before` is taken from there. A model of another schema is refused: what requests the
    service accepts was made from the first one's.
    """
    stamp = sources.stamp()
    kept = before is not None and before.stamp[0] == stamp[0]
    model = before.model if before and kept else read_model(sources.model.resolve())
    if before is not None and model.schema.fingerprint() != before.schema.fingerprint():
        raise ModelError(
            f"{sources.model}: the model {model.tag} is of another schema than {before.model.tag}, with which this "
            "service was started: restart the service"
        )
    catalogue = Catalogue(model, read_snapshot(snapshot_beside(sources.online), model.schema, model.views))
    same_store = before is not None and before.stamp[2] == stamp[2] and before.model.views == model.views
    users = before.users if before and same_store and _names(before.model) == _names(model) else None
    return State(
        model=model,
        catalogue=catalogue,
        scorer=Scorer(model, catalogue, megabytes=settings.shares_megabytes),
        users=users or _open_users(model, sources, settings),
        encoder=RowEncoder(model.encoder, _names(model) - set(catalogue.rows.column_names)),
        priors=Priors(model, sources.model.resolve(), catalogue),
        sources=sources,
        stamp=stamp,
    )


def _open_users(model: Model, sources: Sources, settings: Serve) -> UserFeatures:
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
    names = _names(model) | {day.name for day in _days(model)}
    return UserFeatures(store, model.schema, model.views, names, settings.store)


def _names(model: Model) -> frozenset[str]:
    return frozenset(column.name for column in model.encoder.columns)


def _days(model: Model) -> tuple[Column, ...]:
    """The days of the newest values of the sequences that the model reads."""
    wanted = {newest_day(column.name) for column in model.encoder.columns}
    return tuple(column for view in model.views for column in view.columns if column.name in wanted)


def _stamp(paths: Sequence[Path]) -> Stamp:
    found = ((path, path.stat()) for path in paths if path.exists())
    return tuple((str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns) for path, facts in found)
