"""The names by which Feast knows columns: declared names where it can take them, escaped ones elsewhere.

Feast splits `view:feature` at the colon, drops columns that end in `_y` within its join, names columns of its own
(`rn`, `entity_row_id`) and takes a double underscore for the end of a view's name. Only this folder and the readers of
the online store use these names; files, tensors and answers have the declared ones.
"""

import re

_ESCAPED = "x__"  # then the name in UTF-8, in hexadecimal digits
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OF_FEAST = frozenset(
    {"created", "created_timestamp", "entity_row_id", "event_expire_timestamp", "event_timestamp", "rn"}
)


def feast_name(column: str) -> str:
    """The name of a column in Feast; different columns have different ones."""
    plain = _PLAIN.fullmatch(column) and "__" not in column and not column.endswith("_y")
    return column if plain and column.casefold() not in _OF_FEAST else _ESCAPED + column.encode().hex()


def declared_name(name: str) -> str:
    """The column that Feast knows by this name: the inverse of `feast_name`."""
    return bytes.fromhex(name.removeprefix(_ESCAPED)).decode() if name.startswith(_ESCAPED) else name
