"""Progress bars with an estimate: lively on a terminal, sparing in a log file; who listens hears of every step.

A process that shows a table over all runs hides the bars, its own and those of the processes that it starts.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
HIDDEN = "ESMERGE_HIDE_BARS"  # an environment variable: it reaches processes that are started


@dataclass(frozen=True)
class Step:
    """How far a bar is.

    Attributes:
        title: of the bar.
        done, total: in the bar's unit.
    """

    title: str
    done: float
    total: float


_LISTENERS: list[Callable[[Step], None]] = []


class Bar(tqdm):  # type: ignore[misc]  # which has no types
    """A bar that tells listeners of every step, and is drawn unless bars are hidden."""

    def update(self, n: float | None = 1) -> bool | None:
        drawn: bool | None = super().update(n)
        for listener in _LISTENERS:
            listener(Step(self.desc.removesuffix(": "), self.n, self.total or 0))
        return drawn

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        return True if HIDDEN in os.environ else bool(super().display(msg, pos))


def progress(title: str, total: int, done: int = 0) -> Bar:
    """A bar over ``total`` steps, ``done`` of which are behind us."""
    lively = sys.stderr.isatty()
    return Bar(
        total=total,
        initial=done,
        desc=title,
        file=io.StringIO() if HIDDEN in os.environ else sys.stderr,  # closing a bar writes, even if nothing was drawn
        mininterval=0.2 if lively else 15.0,
        dynamic_ncols=lively,
        ascii=None if lively else True,  # on a terminal its encoding decides
    )


@contextmanager
def listening(listener: Callable[[Step], None]) -> Iterator[None]:
    """While it lasts, ``listener`` hears of every step of every bar of this process."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


@contextmanager
def hidden_bars() -> Iterator[None]:
    """While it lasts, bars of this process, and of those that it starts, are not drawn."""
    before = os.environ.get(HIDDEN)
    os.environ[HIDDEN] = "1"
    try:
        yield
    finally:
        os.environ.pop(HIDDEN)
        os.environ.update({} if before is None else {HIDDEN: before})


def tracked(title: str, items: Collection[Item]) -> Iterator[Item]:
    """The items, with a bar over them."""
    with progress(title, len(items)) as bar:
        for item in items:
            yield item
            bar.update()


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line between the bars, to standard error if no other stream is named."""
    tqdm.write(line, file=sys.stderr if stream is None else stream)
