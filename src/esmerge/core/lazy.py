"""A mapping whose values are made when they are asked for: one is in memory at a time, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class LazyMapping(Mapping[str, Value]):
    """Values that are computed, or read from disk, each time they are asked for.

    Args:
        names: the keys, in order.
        compute: key -> value.
    """

    def __init__(self, names: Iterable[str], compute: Callable[[str], Value]) -> None:
        self._names, self._compute = dict.fromkeys(names), compute

    def __getitem__(self, name: str) -> Value:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # a Mapping's own way would compute the value

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
