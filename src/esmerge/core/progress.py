"""Progress bars with an estimate: lively on a terminal, sparing in a log file."""

from __future__ import annotations

import sys

from tqdm import tqdm


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


def say(line: str) -> None:
    """Print a line between the bars."""
    tqdm.write(line, file=sys.stderr)
