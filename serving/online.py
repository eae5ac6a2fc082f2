"""The feature path: from the ids of a request to the rows that the encoder reads, out of Feast's online store."""

from collections.abc import Iterator, Mapping, Sequence
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
        unknown = dict.fromkeys((column.name for column in self.schema.context), None)
        once = unknown | dict(context) | {k: v for k, (v,) in self._read(self.of_request, [asked]).items()} | asked
        each = self._read(self.of_item, [asked | {self.schema.item: item} for item in items])
        columns = {name: [value] * len(items) for name, value in once.items()} | each | {self.schema.item: items}
        return pa.table([pa.array(columns[field.name], field.type) for field in self.types], schema=self.types)

    def _read(self, views: list[View], entities: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The wanted columns of `views` for each entity, by name: the order of the online store's own is not stable."""
        names = list(self._wanted(views))
        if not names:
            return {}
        keys = {key for view in views for key in view.keys}
        found = self.store.get_online_features(
            features=names, entity_rows=[{key: entity[key] for key in keys} for entity in entities]
        ).to_dict()
        return {name: found[name] for name in (full.split(":")[1] for full in names)}

    def _wanted(self, views: list[View]) -> Iterator[str]:
        for view in views:
            yield from (f"{view.name}:{c.name}" for c in view.columns if c.name in self.types.names)
