"""Rows that values without a row of their own share, by a hash that every tool computes alike.

The hash is the first 60 bits of the MD5 of the value's text: the decimal digits of a number, the UTF-8 bytes of a text.
Python's own hash differs from process to process, and those of databases from version to version; MD5 is everywhere.
In DuckDB: `('0x' || left(md5(value::varchar), 15))::bigint % buckets`.
"""

from hashlib import md5
from typing import Any


def bucket_of(value: str | int, buckets: int) -> int:
    """The bucket of a value, from 0 to `buckets` - 1."""
    digest = md5(str(value).encode(), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:8]) >> 4) % buckets


class Rows(dict[Any, int]):
    """The row of each value of a vocabulary in its table; `rows[value]` answers for every other value, too.

    A missing value has row 0, and so has one without a row of its own where there are no buckets.
    """

    def __init__(self, vocabulary: list[Any], buckets: int) -> None:
        super().__init__(zip(vocabulary, range(1, len(vocabulary) + 1), strict=True))
        self.first, self.buckets = len(vocabulary) + 1, buckets
        self[None] = 0

    def __missing__(self, value: Any) -> int:
        """The row of a value without one of its own."""
        return self.first + bucket_of(value, self.buckets) if self.buckets else 0
