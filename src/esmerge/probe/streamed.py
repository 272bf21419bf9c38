"""Signals that a GPU computes, on their way to disk while it goes on computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType

import torch
from torch import Tensor

from esmerge.core.devices import Fetching
from esmerge.probe.signal_file import SignalFile
from esmerge.probe.store import Shapes

ROWS_AT_ONCE, WAITING = 256, 4  # segments that are written together; how many such lots may wait for the disk

Segment = tuple[str, int, int]
"""Name, block and first row of what is written."""


class StreamedStore:
    """A signal file that is filled from a GPU.

    Responses are copied to pinned memory beside the computation; a thread waits for the copies and writes them. Scores
    are added up on the device and written at the end. So the device holds the scores alone, and nobody waits for it.

    Args:
        file: takes all values.
        shapes: of the file's tensors.
        device: that computes.
    """

    def __init__(self, file: SignalFile, shapes: Shapes, device: torch.device) -> None:
        self._file, self._shapes, self._device = file, shapes, device
        self._scores: dict[str, Tensor] = {}
        self._segments: list[Segment] = []
        self._values: list[Tensor] = []
        self._writer = ThreadPoolExecutor(1, "signals")
        self._waiting: deque[Future[None]] = deque()

    def write_rows(self, name: str, block: int, row: int, values: Tensor) -> None:
        """Put rows, (n, d), into block ``block`` of a (blocks, rows, d) tensor, from its ``row``-th on."""
        self._segments.append((name, block, row))
        self._values.append(values)
        if len(self._segments) >= ROWS_AT_ONCE:
            self._send()

    def add(self, names: Sequence[str], values: Sequence[Tensor]) -> None:
        """Add values to tensors that stand next to each other."""
        new_names = [name for name in names if name not in self._scores]
        self._scores.update({name: torch.zeros(self._shapes[name], device=self._device) for name in new_names})
        torch._foreach_add_([self._scores[name] for name in names], list(values))

    def __enter__(self) -> StreamedStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writer:
            if error is not None:
                return
            self._send()
            for name, total in self._scores.items():
                self._submit(partial(self._file.add, [name]), Fetching(total))
            while self._waiting:
                self._waiting.popleft().result()

    def _send(self) -> None:
        """Hand the gathered segments to the thread."""
        if self._values:
            self._submit(partial(self._write, self._segments), Fetching(*self._values))
        self._segments, self._values = [], []

    def _submit(self, write: Callable[[Sequence[Tensor]], None], fetching: Fetching) -> None:
        """Let the thread write what is being copied, when it is there; wait for the disk if it is far behind."""
        self._waiting.append(self._writer.submit(lambda: write(fetching.wait())))
        while len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def _write(self, segments: Sequence[Segment], values: Sequence[Tensor]) -> None:
        for (name, block, row), rows in zip(segments, values, strict=True):
            self._file.write_rows(name, block, row, rows)
