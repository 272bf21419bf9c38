"""Progress bars with an estimate: lively on a terminal, sparing in a log file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(title: str, total: int, done: int = 0) -> tqdm:
    """A bar over ``total`` steps, ``done`` of which are behind us."""
    lively = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        mininterval=0.2 if lively else 15.0,
        dynamic_ncols=lively,
        ascii=None if lively else True,  # on a terminal its encoding decides
    )


def tracked(title: str, items: Collection[Item]) -> Iterator[Item]:
    """The items, with a bar over them."""
    with progress(title, len(items)) as bar:
        for item in items:
            yield item
            bar.update()


def say(line: str) -> None:
    """Print a line between the bars."""
    tqdm.write(line, file=sys.stderr)
