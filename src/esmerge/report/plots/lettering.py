"""How long a text is when it is drawn, and where it is broken to fit; what figures may be as wide as."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

WIDTH = 7.2  # inches: at a text width of 6.5, 7 points are printed as 6.3
SMALLEST = 7.0  # points
LINE = 1.25 / 72  # inches between two lines, for each point of size
BREAKS = (r"(?<=[_/])|(?<=\.)(?!\d)", r"(?<==)", r"(?<=.)")  # in a word that is too long for a line: the first that do


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Of one line, in inches."""
    points: float = TextToPath().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]
    return points / 72


def wrapped(text: str, width: float, size: float) -> str:
    """A text in lines of at most ``width`` inches: broken between words, and in a word only if it fits no line."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines += _parts(word, width, size)
    return "\n".join(lines)


def _parts(word: str, width: float, size: float, breaks: Sequence[str] = BREAKS) -> list[str]:
    """A word in lines: between its names, or before its value, or anywhere if one of these is too long itself."""
    if not breaks or text_width(word, size) <= width:
        return [word]
    lines = [""]
    for part in filter(None, re.split(breaks[0], word)):
        if text_width(lines[-1] + part, size) <= width:
            lines[-1] += part
        else:
            lines += _parts(part, width, size, breaks[1:])
    return list(filter(None, lines))


def line_count(texts: Sequence[str]) -> int:
    """Of the one with the most lines."""
    return max((text.count("\n") + 1 for text in texts), default=0)


def widest_line(texts: Sequence[str], size: float) -> float:
    """In inches."""
    return max((text_width(line, size) for text in texts for line in text.split("\n")), default=0.0)


def put_legend(figure: Figure, handles: Sequence[Artist], size: float = 8.0) -> None:
    """A legend above the panels, in as many columns as there is width for."""
    lengths = [widest_line([str(handle.get_label())], size) + 4.8 * size / 72 for handle in handles]
    fitting = [n for n in range(1, len(handles) + 1) if _columns_width(lengths, n) <= figure.get_figwidth() - 0.2]
    columns = max(fitting, default=1)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=size)


def _columns_width(lengths: Sequence[float], columns: int) -> float:
    """As a legend fills them: one after the other, the first ones with one entry more."""
    quotient, remainder = divmod(len(lengths), columns)
    ends = [place * quotient + min(place, remainder) for place in range(columns + 1)]
    return sum(max(lengths[start:end]) for start, end in zip(ends, ends[1:], strict=False))
