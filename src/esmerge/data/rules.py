"""From a column of a table to the index of the right label: the ways in which one column makes a closed question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from esmerge.core.errors import InputError

LEFT_OUT = -1  # the index of a value that the question leaves out


def above(limit: float, column: str) -> Callable[[str], int]:
    """1 where the value is a number above ``limit``, else 0."""

    def index(text: str) -> int:
        return int(number(text, column) > limit)

    return index


def number(text: str, column: str) -> float:
    """A finite number; raises ``InputError`` for anything else, ``nan`` and ``inf`` among it."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{column} {text!r} is not a number")
    return value


def contains(part: str) -> Callable[[str], int]:
    """1 where the text holds ``part``, else 0."""
    return lambda text: int(part in text)


def classes(positions: Mapping[str, int | None], column: str) -> Callable[[str], int]:
    """The label index of the value's class; ``LEFT_OUT`` where that is null."""

    def index(text: str) -> int:
        if text not in positions:
            raise InputError(f"{column} {text!r} is not one of {', '.join(positions)}")
        position = positions[text]
        return LEFT_OUT if position is None else position

    return index


def mentions(positions: Mapping[str, int]) -> Callable[[str], int]:
    """The label index that the words of the first sentence name, in any case; ``LEFT_OUT`` where they name none or
    several."""

    def index(text: str) -> int:
        sentence = text.split(". ", maxsplit=1)[0].lower()
        matches = {number for word, number in positions.items() if word.lower() in sentence}
        return matches.pop() if len(matches) == 1 else LEFT_OUT

    return index
