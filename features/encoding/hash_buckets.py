"""Rows that values without a row of their own share, by a hash that every tool computes alike.

The hash is the first 60 bits of the MD5 of the value's text: the decimal digits of a number, the UTF-8 bytes of a text.
Python's own hash differs from process to process, and those of databases from version to version; MD5 is everywhere.
In DuckDB: `('0x' || left(md5(value::varchar), 15))::bigint % buckets`.
"""

from hashlib import md5
from typing import Any

from features.encoding.vocabulary import Vocabulary

LARGEST = 1_000_000  # values in the dictionary of a request encoder: 81 bytes a number, 119 a text


def bucket_of(value: str | int, buckets: int) -> int:
    """The bucket of a value, from 0 to `buckets` - 1."""
    digest = md5(str(value).encode(), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:8]) >> 4) % buckets


class Rows(dict[Any, int]):
    """The row of each value of a vocabulary in its table; `rows[value]` answers for every other value, too.

    A missing value has row 0, and so has one without a row of its own where there are no buckets. Above `largest`
    values nothing is copied: each is searched in the vocabulary, in some 5 microseconds instead of 0.1.
    """

    def __init__(self, vocabulary: Vocabulary, buckets: int, largest: int = LARGEST) -> None:
        self.first, self.buckets = len(vocabulary) + 1, buckets
        self.searched = vocabulary if len(vocabulary) > largest else None
        super().__init__(zip(() if self.searched else vocabulary, range(1, self.first), strict=False))
        self[None] = 0

    def __missing__(self, value: Any) -> int:
        """The row of a value that is searched, or without one of its own."""
        position = None if self.searched is None else self.searched.position(value)
        if position is not None:
            return 1 + position
        return self.first + bucket_of(value, self.buckets) if self.buckets else 0
