"""Every item that can be ranked, looked up and encoded once: the item's half of all requests until the next snapshot.

The places 0 .. items - 1 are the rows of the snapshot. Behind them lie the items that the encoder knows and the
snapshot does not (id known, features missing), and last of all one place for whoever is unknown to both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.encoding.encoder import UNKNOWN, Batch
from features.engine.arrow_types import arrow_schema
from features.schema import EVENT_TIMESTAMP, Kind
from features.store.item_snapshot import Snapshot
from models.model_folder import Model

Places = NDArray[np.int64]


class Catalogue:
    """Items with their rows, as the snapshot has them, and as encoded: columns that are no item's are missing there."""

    def __init__(self, model: Model, snapshot: Snapshot) -> None:
        schema = model.schema
        self.view = next(view.name for view in model.views if view.keys == (schema.item,))
        self.items, self.moment = snapshot.rows.num_rows, snapshot.moment
        ids = snapshot.rows[schema.item].to_pylist()
        known = model.encoder.tables.get(_vocabulary(model), [])
        self.ids: list[Any] = ids + sorted(set(known) - set(ids))
        self._places = {item: place for place, item in enumerate(self.ids)}
        self.rows = _rows(snapshot, schema.item, self.ids)
        self.moments = _seconds(self.rows[EVENT_TIMESTAMP])
        self.batch = model.encoder.encode(_whole_rows(model, self.rows))
        self.unknown = _unknown(model, self.batch)

    def places(self, items: Sequence[Any]) -> Places:
        """The place of each item [N]; the last one for an unknown item."""
        unknown = len(self.ids)
        return np.array([self._places.get(item, unknown) for item in items], np.int64)

    def matching(self, filters: Mapping[str, Any], places: Places) -> NDArray[np.bool_]:
        """Which of the items at `places` pass every filter [N]: a list of values, or a range {"min", "max"}.

        Of a list column, one value is enough; what is missing passes none. Raises KeyError on a column of no item.
        """
        kept = np.ones(len(places), np.bool_)
        for name, wanted in filters.items():
            column = self.rows[name].take(places).combine_chunks()
            kept &= _within(column, wanted) if isinstance(wanted, Mapping) else _hits(column, wanted)
        return kept

    def take(self, places: Places) -> Batch:
        """The encoded rows at `places`."""
        batch = self.batch
        return Batch(batch.categorical[places], batch.bags[places], batch.numeric[places], batch.scenario[places])


def whole_columns(model: Model) -> pa.Schema:
    """The columns that the encoder reads, in its order, and the scenario in any case."""
    columns = {column.name: column for column in model.encoder.columns}
    scenario = next(column for column in model.schema.events if column.name == model.schema.scenario)
    return arrow_schema(tuple((columns | {scenario.name: scenario}).values()))


def _whole_rows(model: Model, rows: pa.Table) -> pa.Table:
    """Rows that the encoder can read: what is no item's is null, and the scenario is any."""
    types, count = whole_columns(model), rows.num_rows
    columns = [rows[field.name] if field.name in rows.column_names else pa.nulls(count, field.type) for field in types]
    place = types.get_field_index(model.schema.scenario)
    columns[place] = pa.repeat(pa.scalar(model.schema.scenarios[0], types.field(place).type), count)
    return pa.table(columns, schema=types)


def _rows(snapshot: Snapshot, item: str, ids: list[Any]) -> pa.Table:
    """The rows of the snapshot, those of the items that it lacks, and that of an unknown one: their features null."""
    more = len(ids) + 1 - snapshot.rows.num_rows
    types = snapshot.rows.schema
    lacking = [pa.nulls(more, field.type) for field in types]
    lacking[types.get_field_index(item)] = pa.array([*ids[snapshot.rows.num_rows :], None], types.field(item).type)
    return pa.concat_tables([snapshot.rows, pa.table(lacking, schema=types)]).combine_chunks()


def _seconds(moments: pa.ChunkedArray) -> NDArray[np.int64]:
    """Seconds since 1970 [N]; 0 where there is no row."""
    return pc.fill_null(moments.cast(pa.int64()), 0).to_numpy() // 1_000_000


def _vocabulary(model: Model) -> str:
    """The name of the items' vocabulary."""
    item = next(column for column in model.schema.events if column.name == model.schema.item)
    return item.vocabulary


def _unknown(model: Model, batch: Batch) -> NDArray[np.bool_]:
    """Which rows read the unknown row of the item's table [N]; none where the model reads no ids of items."""
    names = [column.name for column in model.encoder.columns if column.kind is Kind.CATEGORICAL]
    if model.schema.item not in names:
        return np.zeros(len(batch.scenario), np.bool_)
    found: NDArray[np.bool_] = batch.categorical[:, names.index(model.schema.item)] == UNKNOWN
    return found


def _within(column: pa.Array, wanted: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which numbers lie in a range, both ends included [N]."""
    values = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
    found: NDArray[np.bool_] = (values >= wanted.get("min", -np.inf)) & (values <= wanted.get("max", np.inf))
    return found


def _hits(column: pa.Array, values: list[Any]) -> NDArray[np.bool_]:
    """Which elements are one of `values`, or, of lists, hold one [N]."""
    if not pa.types.is_list(column.type):
        return pc.is_in(column, value_set=pa.array(values, column.type)).to_numpy(zero_copy_only=False)
    found = np.zeros(len(column), np.bool_)
    inside = pc.is_in(column.flatten(), value_set=pa.array(values, column.type.value_type))
    found[pc.list_parent_indices(column).filter(inside).to_numpy()] = True
    return found
