"""The part of DuckDB's SQL that Spark has too, and its translation by sqlglot.

sqlglot translates what it can and leaves the rest as it is; some of it is lost without a word: an ordered aggregate
becomes one without an order. So a statement may use only the functions and types of this module, each of which the
tests hold to the same values on both engines. A cast of a fraction to an integer is not among them, and cannot be seen
here: DuckDB rounds, Spark cuts off. `sql.rounded` does the same on both.
"""

from collections.abc import Iterator

import sqlglot
from sqlglot import exp

from common.errors import EngineError

_FUNCTIONS = (
    *(exp.Sum, exp.Count, exp.Min, exp.Max, exp.Avg, exp.StddevPop, exp.ArrayAgg),
    *(exp.RowNumber, exp.LastValue, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least, exp.Case, exp.If),
    *(exp.Cast, exp.DateDiff, exp.Abs, exp.Ln, exp.Exp, exp.Sqrt, exp.Sign, exp.And, exp.Or),
    *(exp.Struct, exp.Array, exp.ArraySort, exp.ArraySize, exp.ArrayFilter, exp.Transform, exp.GenerateSeries),
    *(exp.Explode, exp.Unnest),
)
_TYPES = {
    *(exp.DataType.Type.BIGINT, exp.DataType.Type.INT, exp.DataType.Type.FLOAT, exp.DataType.Type.DOUBLE),
    *(exp.DataType.Type.DECIMAL, exp.DataType.Type.DATE, exp.DataType.Type.TIMESTAMPNTZ, exp.DataType.Type.VARCHAR),
    *(exp.DataType.Type.TEXT, exp.DataType.Type.BOOLEAN, exp.DataType.Type.ARRAY),
}
_RENAMED = {  # what sqlglot does not know
    "list_extract": "TRY_ELEMENT_AT",  # of both, the first element has index 1
    "list_reduce": "AGGREGATE",  # which has the start before the function
    "round_even": "BROUND",  # to the even neighbour
}
_AGGREGATES = (exp.Sum, exp.Count, exp.Min, exp.Max, exp.Avg, exp.StddevPop, exp.ArrayAgg)


def to_spark(statement: str) -> str:
    """The statement in Spark's dialect; raises EngineError where Spark would not run it, or would run another one."""
    tree = sqlglot.parse_one(statement, read="duckdb")
    if faults := sorted(set(_faults(tree))):
        raise EngineError(
            f"a statement is not portable to Spark: {'; '.join(faults)}. Write it with the functions and types of "
            f"features/engine/portable_sql.py. It begins with: {' '.join(statement.split())[:200]}"
        )
    for node in list(tree.find_all(exp.Anonymous)):
        if node.name.lower() == "list_reduce":
            values, function, start = node.expressions
            node.set("expressions", [values, start, function])
        node.set("this", _RENAMED[node.name.lower()])
    return tree.sql(dialect="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)


def _faults(tree: exp.Expr) -> Iterator[str]:
    """What sqlglot would leave as it is, or lose."""
    for node in tree.walk():
        if isinstance(node, exp.Func) and not isinstance(node, _FUNCTIONS) and node.name.lower() not in _RENAMED:
            yield f"function {node.sql(dialect='duckdb')[:60]}"
        elif isinstance(node, exp.DataType) and node.this not in _TYPES:
            yield f"type {node.sql(dialect='duckdb')}"
        elif isinstance(node, _AGGREGATES) and node.find(exp.Order):
            yield f"order in an aggregate, which would be lost: {node.sql(dialect='duckdb')[:60]}"
        elif isinstance(node, exp.ArraySort) and node.args.get("asc") == exp.false():
            yield f"direction of a sort: {node.sql(dialect='duckdb')[:60]}"
        elif isinstance(node, exp.Bracket):
            yield f"index, which would be from 0 on: {node.sql(dialect='duckdb')[:60]} (write list_extract)"
        elif isinstance(node, exp.Join) and node.method.lower() in ("asof", "positional"):
            yield f"{node.method} join"
        elif isinstance(node, exp.Explode | exp.Unnest) and not isinstance(node.parent, exp.Alias | exp.Select):
            yield f"unnest in an expression: {node.sql(dialect='duckdb')[:60]}"
