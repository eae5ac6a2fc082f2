"""Which of DuckDB's types, as `describe` names them, are numbers."""

_INTEGERS = {
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
}


def is_integer(kind: str) -> bool:
    """Whether the values of a type are integers."""
    return kind in _INTEGERS


def is_float(kind: str) -> bool:
    """Whether the values of a type are rounded to binary fractions."""
    return kind in ("FLOAT", "DOUBLE")


def is_decimal(kind: str) -> bool:
    """Whether the values of a type are decimal fractions, such as DECIMAL(18,3)."""
    return kind.startswith("DECIMAL")


def is_number(kind: str) -> bool:
    """Whether the values of a type are numbers."""
    return is_integer(kind) or is_float(kind) or is_decimal(kind)
