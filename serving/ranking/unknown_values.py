"""What a model does not know of a request: values that no training row had, and a scenario without training rows.

A value that is missing is not unknown; one that shares a row with others by its hash is. A list is unknown where it has
values and the model knows none of them. Ids of users and items are flagged by themselves, see RankingResult.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.encoding.encoder import UNKNOWN, Batch
from features.schema import Kind
from models.model_folder import REFERENCE, Model
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex


class UnknownValues:
    """Finds the columns whose values a model does not know, in a user's row and in the rows of items.

    Letters: M scenarios, C items of the catalogue, J categorical and list columns of items, N items of a request.
    """

    def __init__(self, model: Model, folder: Path, catalogue: ItemCatalogue) -> None:
        self._encoder = model.encoder
        columns, ids = model.encoder.columns, (model.schema.user, model.schema.item, model.schema.scenario)
        of_items = set(catalogue.rows.column_names)
        single = [(c.name, index) for index, c in enumerate(c for c in columns if c.kind is Kind.CATEGORICAL)]
        single = [(name, index) for name, index in single if name not in ids]
        self._lists = [column.name for column in columns if column.is_list]
        ends = [0, *accumulate(column.length or 0 for column in columns if column.is_list)]
        self._spans = dict(zip(self._lists, map(slice, ends, ends[1:]), strict=True))  # of a row's bags
        self._of_user = [(name, index) for name, index in single if name not in of_items]
        self._lists_of_user = [(name, span) for name, span in self._spans.items() if name not in of_items]
        self._of_items = {name: index for name, index in single if name in of_items}
        self.item_columns = [*self._of_items, *(name for name in self._lists if name in of_items)]  # [J]
        self.items = self._unknown_in(catalogue)  # [C, J]
        flagged = np.asarray(self.items.any(axis=1))  # [C]
        self._flagged = flagged if flagged.any() else None  # mostly: no request looks at its items
        self.trained = _trained_scenarios(model, folder)  # [M]

    def columns(
        self,
        user: Batch,
        values: Mapping[str, Any],
        item_index: ItemIndex,
        *,
        rows: Batch | None,
        overrides: Mapping[str, Sequence[Any]],
    ) -> list[str]:
        """The columns with an unknown value.

        Args:
            user: the encoded row of the user [1, ..].
            values: its values by column.
            item_index: the indices of the items [N].
            rows: the encoded rows of the items [N, ..] where `overrides` replace columns of theirs.
            overrides: a value for each item, by column.
        """
        names, user = [], self._encoder.without_hashed(user)
        ids, bags = user.categorical.tolist()[0], user.bags.tolist()[0]  # lists: faster than arrays of one row
        for name, index in self._of_user:
            if ids[index] == UNKNOWN and values.get(name) is not None:
                names.append(name)
        for name, span in self._lists_of_user:
            if max(bags[span]) == UNKNOWN:
                names.append(name)
        if self._flagged is not None and self._flagged[item_index].any():
            unknown = np.flatnonzero(self.items[item_index].any(axis=0)).tolist()
            names += [name for name in map(self.item_columns.__getitem__, unknown) if name not in overrides]
        return names if rows is None else names + self._overridden(self._encoder.without_hashed(rows), overrides)

    def _overridden(self, rows: Batch, overrides: Mapping[str, Sequence[Any]]) -> list[str]:
        """The overridden columns of items with an unknown value."""
        names = []
        for name, values in overrides.items():
            if name in self._of_items:
                given = np.array([value is not None for value in values], np.bool_)
                unknown = given & (rows.categorical[:, self._of_items[name]] == UNKNOWN)
            elif name in self._lists:
                unknown = self._largest_ids(rows, name) == UNKNOWN
            else:
                continue
            names += [name] if unknown.any() else []
        return names

    def _unknown_in(self, catalogue: ItemCatalogue) -> NDArray[np.bool_]:
        """Which items have an unknown value in which of `item_columns` [C, J]."""
        batch = self._encoder.without_hashed(catalogue.batch)
        flags = np.zeros((len(catalogue.unknown), len(self.item_columns)), np.bool_)
        for column, name in enumerate(self.item_columns):
            if name in self._of_items:
                given = pc.is_valid(catalogue.rows[name]).to_numpy(zero_copy_only=False)
                flags[:, column] = given & (batch.categorical[:, self._of_items[name]] == UNKNOWN)
            else:
                flags[:, column] = self._largest_ids(batch, name) == UNKNOWN
        return flags

    def _largest_ids(self, rows: Batch, name: str) -> NDArray[np.int32]:
        """The largest id in a list column of each row [N]: UNKNOWN without a known value, PADDING without any."""
        largest: NDArray[np.int32] = rows.bags[:, self._spans[name]].max(axis=1)
        return largest


def _trained_scenarios(model: Model, folder: Path) -> NDArray[np.bool_]:
    """Which scenarios have training rows [M]."""
    reference = json.loads((folder / REFERENCE).read_text())
    rows = dict(zip(reference["scenarios"], np.array(reference["rows"]).sum(axis=0).tolist(), strict=True))
    return np.array([rows.get(scenario, 0) > 0 for scenario in model.schema.scenarios], np.bool_)
