"""The as-of join: each row of a table with the newest row of each feature view up to its timestamp, in DuckDB.

One ASOF JOIN per view, so the cost grows with the rows of both sides and not with how many rows of the past an entity
has. It gives what Feast's own join gives, which pairs each row with all earlier rows of its entity and drops all but
one: an equal timestamp is the past, of equal timestamps the newest creation wins, and a value is valid up to and
including its timestamp plus the view's TTL. All timestamps are compared in UTC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ibis
from ibis.expr import datatypes as dt
from ibis.expr.types import Table

from features.store.ibis_backend import prepare_asof_joins

_AT, _KEY, _UTC = "__valid_from", "__key_{}", "__row_timestamp"  # no declared name begins so


@dataclass(frozen=True, kw_only=True)
class ViewRows:
    """The rows of a feature view, and how they are joined.

    Attributes:
        table: The rows, under the names by which Feast knows the columns.
        keys: Columns of the view, and the columns of the other table that they are compared with.
        features: Names of the features, and the columns of the view that hold them.
        timestamp: Column from when on a row is valid.
        created: Column with the creation of a row, which decides between rows of one timestamp, if there is one.
        ttl: How long a row is valid; without limit where it is None or 0.
    """

    table: Table
    keys: dict[str, str]
    features: dict[str, str]
    timestamp: str
    created: str | None
    ttl: timedelta | None


def asof_join(rows: Table, views: Iterable[ViewRows], timestamp: str) -> Table:
    """All columns of `rows`, then the features of `views` as of the column `timestamp`; null where there are none."""
    prepare_asof_joins()
    names = list(rows.columns)
    joined = rows.mutate(**{_UTC: _utc(rows[timestamp])})
    for view in views:
        joined = _join(joined, view)
        names += view.features
    return joined.select(names)


def _join(rows: Table, view: ViewRows) -> Table:
    past = _valid_rows(view)
    keys = [rows[own] == past[_KEY.format(name)] for name, own in view.keys.items()]
    joined = rows.asof_join(past, on=rows[_UTC] >= past[_AT], predicates=keys)
    features: dict[str, Any] = {name: joined[name] for name in view.features}
    if view.ttl:
        valid = joined[_AT] + ibis.literal(view.ttl) >= joined[_UTC]
        features = {name: valid.ifelse(column, None) for name, column in features.items()}
    return joined.select(*rows.columns, *_named(features))


def _valid_rows(view: ViewRows) -> Table:
    """Keys, timestamp and features of a view; where rows have a creation, one row per entity and timestamp."""
    table = view.table
    keys = {_KEY.format(name): table[name] for name in view.keys}
    features = {name: table[column] for name, column in view.features.items()}
    created = {} if view.created is None else {"__created": _utc(table[view.created])}
    rows = table.select(_named(keys | {_AT: _utc(table[view.timestamp])} | features | created))
    if not created:
        return rows
    same = ibis.window(group_by=[*keys, _AT], order_by=[ibis.desc(rows["__created"])])
    newest = rows.mutate(__rank=ibis.row_number().over(same))
    return newest.filter(newest["__rank"] == 0).drop("__rank", "__created")


def _named(columns: Mapping[str, Any]) -> list[Any]:
    """The expressions under their names: as keyword arguments a column called `self` would be refused."""
    return [column.name(name) for name, column in columns.items()]


def _utc(column: Any) -> Any:
    """The column as a timestamp in UTC; without a zone it is in UTC, as the backend's session is."""
    return column.cast(dt.Timestamp(timezone="UTC"))
