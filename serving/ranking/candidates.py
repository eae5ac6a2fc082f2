"""The candidates of a request: the items that it lists, or all, without what it filters and excludes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.ranking.diversity import Codes, value_codes
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex
from serving.ranking.loaded_model import LoadedModel
from serving.ranking.request import ALL, RankRequest
from serving.ranking.request_selection import SEEN


@dataclass(frozen=True)
class Candidates:
    """The items of a request after its filters and exclusions [N], with their indices in the catalogue.

    `overrides` are other values of some of their columns, in the same order.
    """

    items: Sequence[Any]
    item_index: ItemIndex
    overrides: Mapping[str, Sequence[Any]]

    def codes(self, catalogue: ItemCatalogue, name: str) -> Codes:
        """The values of a column of the items, as overridden, as codes [N, V]."""
        if name in self.overrides:
            return value_codes(pa.array(self.overrides[name], catalogue.rows[name].type))
        codes: Codes = catalogue.codes(name)[self.item_index]
        return codes


def select_candidates(loaded: LoadedModel, request: RankRequest, stored: Mapping[str, Any]) -> Candidates:
    """The requested items that pass the filters and are not excluded; `stored` are the user's features by column."""
    catalogue, overrides = loaded.catalogue, request.overrides.get("items", {})
    every = request.candidates == ALL
    items = catalogue.ids if every else request.candidates
    item_index = np.arange(catalogue.items) if every else catalogue.indices(items)
    excluded = _excluded_ids(loaded, request, stored) if request.exclude else ()
    if not request.filters and not excluded:
        return Candidates(items, item_index, overrides)
    selected = catalogue.matching(request.filters, item_index)
    if excluded:
        selected &= ~(_are_in(catalogue, excluded) if every else _are_listed(items, excluded))
    matching = np.flatnonzero(selected)
    kept = matching.tolist()
    overrides = {name: [values[index] for index in kept] for name, values in overrides.items()}
    return Candidates([items[index] for index in kept], item_index[matching], overrides)


def _excluded_ids(loaded: LoadedModel, request: RankRequest, stored: Mapping[str, Any]) -> frozenset[Any]:
    """The ids that a request excludes; of what the user has seen, its overrides know better than the store."""
    excluded = set(request.exclude.get("items", ()))
    if request.exclude.get(SEEN):
        known = {**stored, **request.overrides.get("user", {})}
        excluded.update(item for name in loaded.histories for item in known.get(name) or ())
    return frozenset(excluded)


def _are_in(catalogue: ItemCatalogue, ids: Collection[Any]) -> NDArray[np.bool_]:
    """Which items of the catalogue's snapshot have one of the ids [items]."""
    matches = np.zeros(catalogue.items, np.bool_)
    indices = catalogue.indices([*ids])
    matches[indices[indices < catalogue.items]] = True
    return matches


def _are_listed(items: Sequence[Any], ids: Collection[Any]) -> NDArray[np.bool_]:
    """Which of the items have one of the ids [N]; all unknown items share one index, so the ids are compared."""
    return np.fromiter((item in ids for item in items), np.bool_, len(items))
