"""The item catalogue: every item that can be ranked, with its features encoded once per snapshot.

Items have consecutive indices. 0 .. items - 1 are the rows of the snapshot. Then come the items that the encoder knows
and the snapshot lacks (id known, features missing). The last index stands for every item unknown to both; of a table
with hash buckets these items have different rows, which are made per request.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.encoding.encoder import UNKNOWN, Batch, Encoder
from features.engine.arrow_types import arrow_schema
from features.schema import EVENT_TIMESTAMP, Kind
from features.store.item_snapshot import ItemSnapshot
from models.model_folder import Model
from serving.ranking.diversity import Codes, value_codes

ItemIndex = NDArray[np.int64]


class ItemCatalogue:
    """The rows of all items as the snapshot has them, and encoded; columns of other entities are missing there.

    `ids` are the items by index, `timestamps` the seconds since 1970 of their rows, `as_of` the snapshot's timestamp.
    `unknown` says which items have no embedding of their own: they read that of unknown ids, or share one by hash.
    """

    def __init__(self, model: Model, snapshot: ItemSnapshot) -> None:
        schema = model.schema
        self.view = next(view.name for view in model.views if view.keys == (schema.item,))
        self.items, self.as_of = snapshot.rows.num_rows, snapshot.as_of
        ids = snapshot.rows[schema.item].to_pylist()
        self.encoder, self._vocabulary = model.encoder, _vocabulary(model)
        known = set(model.encoder.vocabularies.get(self._vocabulary, ()))
        self.ids: list[Any] = ids + sorted(known - set(ids))
        self._index = {item: index for index, item in enumerate(self.ids)}
        self.rows = _complete_rows(snapshot, schema.item, self.ids)
        self.timestamps = _seconds(self.rows[EVENT_TIMESTAMP])
        self.batch = model.encoder.encode(_encoder_rows(model, self.rows))
        self._id_column = _id_column(model)
        self.unknown = _without_own_row(model.encoder, self.batch, self._id_column)
        self._codes: dict[str, Codes] = {}

    def indices(self, items: Sequence[Any]) -> ItemIndex:
        """The index of each item [N]; the last one for an unknown item."""
        unknown = len(self.ids)
        return np.array([self._index.get(item, unknown) for item in items], np.int64)

    def matching(self, filters: Mapping[str, Any], item_index: ItemIndex) -> NDArray[np.bool_]:
        """Which of the items pass every filter [N]: a list of values, or a range {"min", "max"}.

        A list column passes if one of its values does; a missing value passes no filter. Raises KeyError on a column
        that is not an item's.
        """
        matches = np.ones(len(item_index), np.bool_)
        for name, wanted in filters.items():
            column = self.rows[name].take(item_index).combine_chunks()
            matches &= _in_range(column, wanted) if isinstance(wanted, Mapping) else _is_in(column, wanted)
        return matches

    def codes(self, name: str) -> Codes:
        """The values of a column of all items as codes [C, V], encoded when they are first needed."""
        if name not in self._codes:
            self._codes[name] = value_codes(self.rows[name].combine_chunks())
        return self._codes[name]

    def take(self, item_index: ItemIndex) -> Batch:
        """The encoded rows [N, ..] of the items with these indices."""
        batch = self.batch
        return Batch(
            batch.categorical[item_index], batch.bags[item_index], batch.numeric[item_index], batch.scenario[item_index]
        )

    def hashed(self, items: Sequence[Any], item_index: ItemIndex) -> Batch | None:
        """The encoded rows [N, ..] of items of which one is unknown and shares a row by hash; None without such one."""
        outside = np.flatnonzero(item_index == len(self.ids))
        if not len(outside) or self._id_column is None or self._vocabulary not in self.encoder.buckets:
            return None
        rows = self.take(item_index)
        ids = [self.encoder.hashed_id(self._vocabulary, items[index]) for index in outside.tolist()]
        rows.categorical[outside, self._id_column] = ids
        return rows


def encoder_columns(model: Model) -> pa.Schema:
    """The columns that the encoder reads, in its order, and the scenario in any case."""
    columns = {column.name: column for column in model.encoder.columns}
    scenario = next(column for column in model.schema.events if column.name == model.schema.scenario)
    return arrow_schema(tuple((columns | {scenario.name: scenario}).values()))


def _encoder_rows(model: Model, rows: pa.Table) -> pa.Table:
    """Item rows with every column of the encoder: null where it is not an item's; the scenario is the first one."""
    types, count = encoder_columns(model), rows.num_rows
    columns = [rows[field.name] if field.name in rows.column_names else pa.nulls(count, field.type) for field in types]
    index = types.get_field_index(model.schema.scenario)
    columns[index] = pa.repeat(pa.scalar(model.schema.scenarios[0], types.field(index).type), count)
    return pa.table(columns, schema=types)


def _complete_rows(snapshot: ItemSnapshot, item: str, ids: list[Any]) -> pa.Table:
    """The rows of the snapshot, then a row without features for each further id, and for an unknown item."""
    more = len(ids) + 1 - snapshot.rows.num_rows
    types = snapshot.rows.schema
    lacking = [pa.nulls(more, field.type) for field in types]
    lacking[types.get_field_index(item)] = pa.array([*ids[snapshot.rows.num_rows :], None], types.field(item).type)
    return pa.concat_tables([snapshot.rows, pa.table(lacking, schema=types)]).combine_chunks()


def _seconds(timestamps: pa.ChunkedArray) -> NDArray[np.int64]:
    """Seconds since 1970 [N]; 0 where there is no row."""
    seconds: NDArray[np.int64] = pc.fill_null(timestamps.cast(pa.int64()), 0).to_numpy() // 1_000_000
    return seconds


def _vocabulary(model: Model) -> str:
    """The name of the items' vocabulary."""
    item = next(column for column in model.schema.events if column.name == model.schema.item)
    return item.vocabulary


def _id_column(model: Model) -> int | None:
    """The position of the item's id among the categorical columns; None where the model reads no item ids."""
    names = [column.name for column in model.encoder.columns if column.kind is Kind.CATEGORICAL]
    return names.index(model.schema.item) if model.schema.item in names else None


def _without_own_row(encoder: Encoder, batch: Batch, id_column: int | None) -> NDArray[np.bool_]:
    """Which items have no embedding of their own [N]; none where the model reads no item ids."""
    if id_column is None:
        return np.zeros(len(batch.scenario), np.bool_)
    unknown: NDArray[np.bool_] = encoder.without_hashed(batch).categorical[:, id_column] == UNKNOWN
    return unknown


def _in_range(column: pa.Array, wanted: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which numbers lie in a range, both ends included [N]."""
    values = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy()
    matches: NDArray[np.bool_] = (values >= wanted.get("min", -np.inf)) & (values <= wanted.get("max", np.inf))
    return matches


def _is_in(column: pa.Array, values: list[Any]) -> NDArray[np.bool_]:
    """Which elements are one of `values`, or, of a list column, contain one [N]."""
    if not pa.types.is_list(column.type):
        equal: NDArray[np.bool_] = pc.is_in(column, value_set=pa.array(values, column.type)).to_numpy(
            zero_copy_only=False
        )
        return equal
    matches = np.zeros(len(column), np.bool_)
    inside = pc.is_in(column.flatten(), value_set=pa.array(values, column.type.value_type))
    matches[pc.list_parent_indices(column).filter(inside).to_numpy()] = True
    return matches
