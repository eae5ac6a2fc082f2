"""The values of a vocabulary in Arrow memory: 8 bytes a number, its UTF-8 bytes and 4 more a text.

A list of Python values takes 5 to 20 times as much, in every worker of a service.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

SLICE = 65_536  # values that become Python values at once


class Vocabulary(Sequence[Any]):
    """Values in ascending order (texts by their UTF-8 bytes), read like a list of Python values; `array` holds them."""

    __slots__ = ("array",)

    def __init__(self, values: Iterable[Any]) -> None:
        self.array = values if isinstance(values, pa.Array) else pa.array(list(values))

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Vocabulary":
        """The values as a vocabulary."""
        return values if isinstance(values, cls) else cls(values)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.array[index].to_pylist() if isinstance(index, slice) else self.array[index].as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), SLICE):
            yield from self.array.slice(start, SLICE).to_pylist()

    def __contains__(self, value: object) -> bool:
        return self.position(value) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary | list | tuple) and self[:] == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"Vocabulary({self[:]!r})"

    def position(self, value: Any) -> int | None:
        """The index of a value, by binary search; None where it is not in the vocabulary."""
        try:
            wanted = pa.scalar(value, self.array.type)
        except (pa.ArrowException, TypeError, OverflowError):  # of another type
            return None
        index: int = pc.search_sorted(self.array, wanted).as_py() if wanted.is_valid else len(self)
        return index if index < len(self) and self.array[index] == wanted else None
