"""The names that a data set may declare, and the names that the pipeline keeps for itself.

A column or a task may have any name that Parquet can store, but for a few that this module refuses. Inner names of SQL
statements, frames and views begin with INNER, so that they never equal a declared one.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from common.errors import SchemaError
from features.schema.columns import EVENT_TIMESTAMP, Column, Kind, Role, newest_day

INNER = "__"
_FINGERPRINT = "_row"  # a column of a raw log: see features/datasets/log.py
_LOG = frozenset({"request_id", "served_at", "place", "model_tag", "ab_arm"})  # columns of the scored-impression log
_SHADOW_LOG = frozenset({"score", "shadow_score", "shadow_tag", "seconds", "shadow_seconds"})  # beside keys of its rows
_OF_LOG = "a column of the scored-impression log, or of a window of it"
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, separators of lines


def check_text(what: str, name: object) -> None:
    """Raises SchemaError where `name` is no text, is empty, or has a character that no file or page can show.

    Args:
        what: Beginning of the message: "column", "task", ...
        name: The declared name.
    """
    if not isinstance(name, str):
        raise SchemaError(f"{what} {name!r}: a name is text, found {type(name).__name__}; write {str(name)!r}")
    if not name:
        raise SchemaError(f"{what} {name!r}: a name has at least one character")
    refused = sorted({f"U+{ord(c):04X}" for c in name if unicodedata.category(c) in _REFUSED})
    if refused:
        raise SchemaError(
            f"{what} {name!r}: a name has no line breaks, control characters or lone surrogates, "
            f"found {', '.join(refused)}; declare it under another name, and rename it in `read`"
        )


def check_name(what: str, name: str) -> None:
    """Raises SchemaError where a column or task cannot have this name (see check_text for `what`)."""
    check_text(what, name)
    if name.startswith(INNER) or name.lower() == _FINGERPRINT:
        kept = f"names that begin with {INNER}, and {_FINGERPRINT}, are kept for the pipeline"
        raise SchemaError(f"{what} {name!r}: {kept}; declare it under another name, and rename it in `read`")


def refuse_equal(where: str, names: Iterable[str]) -> None:
    """Raises SchemaError where two names are equal, or differ in upper and lower case only.

    For DuckDB they are one column.

    Args:
        where: Beginning of the message: whose names they are.
        names: The names, each as often as it is declared.
    """
    names = list(names)
    count = Counter(map(str.casefold, names))
    twice = sorted({name for name in names if count[name.casefold()] > 1})
    if twice:
        raise SchemaError(
            f"{where}: columns {twice} are declared twice; names must be unique, whether in capitals or not"
        )


def refuse_derived(
    where: str, tables: Mapping[str, Sequence[Column]], keys: Collection[str], outputs: Collection[str]
) -> None:
    """Raises SchemaError where a declared column has the name of a column that the pipeline writes beside it.

    Args:
        where: Beginning of the message: whose names they are.
        tables: The columns of events, users and items.
        keys: The names of user, item and scenario.
        outputs: The names of the probabilities of a model.
    """
    columns = [column for table in tables.values() for column in table]
    derived = {name: meaning for column in columns for name, meaning in _derived_of(column)}
    derived |= dict.fromkeys(_LOG | {f"score_{name}".casefold() for name in outputs}, _OF_LOG)
    of_views = {*keys, *(column.name for table in ("users", "items") for column in tables[table])}
    for column in columns:
        name = column.name.casefold()
        meaning = None if column.role is Role.NEWEST_DAY else derived.get(name)
        if name == EVENT_TIMESTAMP and column.name in of_views:
            meaning = "the time from which the values of a row of features are known"
        if column.name in keys and (name in _SHADOW_LOG or name.startswith("shadow_score_")):
            meaning = "a column of the log of the shadow model"
        if meaning is not None:
            raise SchemaError(
                f"{where}: column {column.name!r} has the name of a column of the pipeline's own: {meaning}; "
                "declare it under another name, and rename it in `read`"
            )


def _derived_of(column: Column) -> Iterable[tuple[str, str]]:
    """The names that are derived from a declared column, without capitals, and what they mean."""
    if column.is_list:
        yield f"{column.name}: length".casefold(), f"the length of {column.name}"
    if column.kind is Kind.SEQUENCE:
        yield f"{column.name}: age".casefold(), f"the age of {column.name} in days"
        yield newest_day(column.name).casefold(), f"the day of the newest value of {column.name}"
    if column.is_vector:
        yield f"{column.name}: norm".casefold(), f"the norm of {column.name}"
        yield f"{column.name}: cosine".casefold(), f"the cosine of {column.name} with the mean of training"


def free_name(name: str, declared: Collection[str]) -> str:
    """The name of a column of ours beside declared ones: `name`, or with INNER before it where a column has it."""
    taken = {column.casefold() for column in declared}
    return INNER + name if name.casefold() in taken else name
