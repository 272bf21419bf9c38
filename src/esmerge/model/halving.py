"""Batches that turn out too large for the memory are halved, and so are those after them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm import tqdm

from esmerge.core.devices import is_out_of_memory, release_memory
from esmerge.core.errors import InputError

Item = TypeVar("Item")


class Halving:
    """Runs work on batches; what found no room is done again in halves, and later batches are as small from the start.

    Args:
        unit: what a batch holds, for messages, as ``"prompts"``.
        setting: the setting that makes batches smaller, for messages.

    Attributes:
        most: items that a batch may hold; None while all batches fit.
    """

    def __init__(self, unit: str, setting: str) -> None:
        self._unit, self._setting = unit, setting
        self.most: int | None = None

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], None]) -> None:
        """Do the work on all items, in as few parts as fit; work that fails must leave nothing behind.

        Raises:
            InputError: not even one item fits.
        """
        start = 0
        while start < len(items):
            part = items[start : start + (self.most or len(items))]
            if self._fits(part, work):
                start += len(part)
            else:
                release_memory()  # out here, where no traceback holds the tensors of the failed work any more
                self._halve(len(part))

    def _fits(self, part: Sequence[Item], work: Callable[[Sequence[Item]], None]) -> bool:
        try:
            work(part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise InputError(
                    f"one of the {self._unit} alone finds no room in memory ({str(error).splitlines()[0]}): use a "
                    "device with more memory, a smaller number format or a shorter prompt"
                ) from error
            return False
        return True

    def _halve(self, size: int) -> None:
        self.most = size // 2
        tqdm.write(
            f"out of memory with {size} {self._unit} at once: going on with {self.most} "
            f"({self._setting}={self.most} starts there)",
            file=sys.stderr,
        )
