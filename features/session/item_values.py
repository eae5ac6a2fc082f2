"""The values of items by which a session compares its events with a candidate: equal codes are equal values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from common.stored_files import read_table
from features.schema import Schema, View

NO_VALUE = -1  # the code of an item without a value, or without a row


class ItemValues:
    """Codes of some columns of all items; `rows` has a row per item, and for an item of several the last one counts.

    >>> import pyarrow as pa
    >>> values = ItemValues("item_id", ["cuisine"], pa.table({"item_id": [7, 9], "cuisine": ["rice", None]}))
    >>> values.codes("cuisine", np.array([[9, 7], [7, 8]])).tolist()
    [[-1, 0], [0, -1]]
    """

    def __init__(self, item: str, columns: Sequence[str], rows: pa.Table) -> None:
        frame = rows.select([item, *(name for name in columns if name != item)]).to_pandas()
        frame = frame.drop_duplicates(item, keep="last")
        self.item, self._index = item, pd.Index(frame[item])
        self._codes = {name: np.append(pd.factorize(frame[name])[0], NO_VALUE) for name in frame.columns.drop(item)}

    def codes(self, column: str, items: NDArray[Any]) -> NDArray[Any]:
        """The codes of the column of the items, in the shape of `items`; of the items' ids these themselves."""
        if column == self.item:
            return items
        position = self._index.get_indexer(items.ravel())  # -1, the last one, where there is no row
        codes: NDArray[np.int64] = self._codes[column][position].reshape(items.shape)
        return codes


def read_item_values(schema: Schema, view: View, views: Sequence[View], features: Path) -> ItemValues:
    """The values that a session view compares, from the offline store: profiles, which are those of every day."""
    assert view.session is not None  # of a session view
    columns = [schema.item, *(name for name in view.session.compared_columns if name != schema.item)]
    if columns == [schema.item]:
        return ItemValues(schema.item, columns, pa.table({schema.item: []}))
    of_items = next(view for view in views if view.keys == (schema.item,))
    return ItemValues(schema.item, columns, read_table(features / f"{of_items.name}.parquet", columns))
