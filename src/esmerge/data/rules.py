"""From a column of a table to the place of the right answer: the ways in which one column makes a closed question."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esmerge.core.errors import InputError

LEFT_OUT = -1  # the place of a value that the question leaves out


def above(limit: float, column: str) -> Callable[[str], int]:
    """1 where the value is a number above ``limit``, else 0."""

    def place(text: str) -> int:
        try:
            return int(float(text) > limit)
        except ValueError:
            raise InputError(f"{column} {text!r} is not a number") from None

    return place


def contains(part: str) -> Callable[[str], int]:
    """1 where the text holds ``part``, else 0."""
    return lambda text: int(part in text)


def classes(places: Mapping[str, int | None], column: str) -> Callable[[str], int]:
    """The place of the value's own class; ``LEFT_OUT`` where that is null."""

    def place(text: str) -> int:
        if text not in places:
            raise InputError(f"{column} {text!r} is not one of {', '.join(places)}")
        found = places[text]
        return LEFT_OUT if found is None else found

    return place


def mentions(places: Mapping[str, int]) -> Callable[[str], int]:
    """The place that the words of the first sentence agree on, whatever their case; ``LEFT_OUT`` where they name none
    or several."""

    def place(text: str) -> int:
        sentence = text.split(". ", maxsplit=1)[0].lower()
        found = {number for word, number in places.items() if word.lower() in sentence}
        return found.pop() if len(found) == 1 else LEFT_OUT

    return place
