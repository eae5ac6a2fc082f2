"""The feature path: from the ids of a request to the rows that the encoder reads, out of Feast's online store."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from feast import FeatureStore

from features.arrow import arrow_schema
from features.schema import Column, Schema, View


class OnlineFeatures:
    """The newest features of users and items.

    What does not depend on the item is read once per request (one row), the rest once for all items: two reads.
    `columns` are those that the encoder wants; others are not read.
    """

    def __init__(
        self, store: FeatureStore, schema: Schema, views: tuple[View, ...], columns: tuple[Column, ...]
    ) -> None:
        self.store, self.schema = store, schema
        self.types = arrow_schema(columns)
        self.of_request = [view for view in views if schema.item not in view.keys]
        self.of_item = [view for view in views if schema.item in view.keys]

    def rows(self, user: Any, scenario: str, items: Sequence[Any], context: Mapping[str, Any]) -> pa.Table:
        """One row per item, in order, with every wanted column; null where nothing is known."""
        asked = {self.schema.user: user, self.schema.scenario: scenario}
        of_user = {name: value for name, (value,) in self._read(self.of_request, [asked]).items()}
        once = dict.fromkeys((c.name for c in self.schema.context), None) | dict(context) | of_user | asked
        each = self._read(self.of_item, [asked | {self.schema.item: item} for item in items])
        columns = {name: [value] * len(items) for name, value in once.items()} | each | {self.schema.item: items}
        return pa.table([pa.array(columns[field.name], field.type) for field in self.types], schema=self.types)

    def _read(self, views: list[View], entities: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The wanted columns of `views` for each entity, by name: the order of the online store's own is not stable."""
        wanted = {c.name: f"{view.name}:{c.name}" for view in views for c in view.columns if c.name in self.types.names}
        if not wanted:
            return {}
        keys = {key for view in views for key in view.keys}
        rows = [{key: entity[key] for key in keys} for entity in entities]
        found = self.store.get_online_features(features=list(wanted.values()), entity_rows=rows).to_dict()
        return {name: found[name] for name in wanted}
