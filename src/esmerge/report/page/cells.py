"""Tables as the page's template takes them: text to read, values to sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

NOTHING = "\N{EN DASH}"
MOST_ROWS = 2_000  # of one table: more make a browser slow; the files hold all of them
Format = Callable[[object], str]


@dataclass(frozen=True)
class PageCell:
    """One cell.

    Attributes:
        text: what is shown.
        sort: what it is sorted by; None for an empty cell, which is always last.
        detail: shown small behind the text, e.g. an interval.
        style: ``best``, ``second`` or empty.
    """

    text: str
    sort: float | str | None
    detail: str = ""
    style: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table with a filter, sorted by a click on a head.

    Attributes:
        name: unique on the page; letters, digits and ``-``.
        numeric: for each column, whether it is set to the right.
        notes: how to read it, one sentence or two each.
    """

    name: str
    title: str
    heads: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[PageCell, ...], ...]
    notes: tuple[str, ...] = ()


def frame_table(
    name: str, title: str, frame: pd.DataFrame, heads: Mapping[str, tuple[str, Format | None]], *notes: str
) -> PageTable:
    """A frame as a table.

    Args:
        heads: column -> what a reader calls it, and how its numbers are written; None for a column of text.
    """
    rows = frame[list(heads)].head(MOST_ROWS).itertuples(index=False, name=None)
    formats = [number_format for _, number_format in heads.values()]
    lines = tuple(tuple(_cell(value, form) for value, form in zip(row, formats, strict=True)) for row in rows)
    if len(frame) > MOST_ROWS:
        notes = (*notes, f"The first {MOST_ROWS} of {len(frame)} rows; the sweep folder holds all of them.")
    titles = tuple(head for head, _ in heads.values())
    return PageTable(name, title, titles, tuple(form is not None for form in formats), lines, notes)


def text_table(name: str, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> PageTable:
    """A table of texts."""
    columns = {f"column {index}": (head, None) for index, head in enumerate(heads)}
    return frame_table(name, title, pd.DataFrame(list(rows), columns=list(columns)), columns, *notes)


def places(digits: int, scale: float = 1.0, signed: bool = False) -> Format:
    """Numbers with so many digits behind the point, times ``scale``."""
    return lambda value: f"{scale * float(str(value)):{'+' if signed else ''}.{digits}f}"


def _cell(value: object, form: Format | None) -> PageCell:
    if value is None or (isinstance(value, float) and value != value):
        return PageCell(NOTHING, None)
    if form is None:
        return PageCell(str(value), str(value))
    return PageCell(form(value), float(str(value)))
