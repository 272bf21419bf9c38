"""Signals on disk while a probe runs and after it: filled, added to and read in segments, never whole in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from esmerge.probe.store import Shapes
from esmerge.storage.tensor_format import TensorSpan, read_spans
from esmerge.storage.tensor_stream import TensorFile

WIDTH = 4  # bytes of a float32


class SignalFile:
    """Named float32 tensors on disk, zeros at first, in the order in which their shapes are given."""

    def __init__(self, path: Path, shapes: Shapes) -> None:
        self._file = TensorFile(path, shapes, max(map(len, shapes.values()), default=0))
        self._file.reserve(shapes)

    def write_rows(self, name: str, block: int, row: int, values: Tensor) -> None:
        """Put rows, (n, d), into block ``block`` of a (blocks, rows, d) tensor, from its ``row``-th on."""
        span = self._file.spans[name]
        _, rows, width = span.shape
        self._file.write(span.start + (block * rows + row) * width * WIDTH, _numbers(values))

    def add(self, names: Sequence[str], values: Sequence[Tensor]) -> None:
        """Add values to tensors that stand next to each other, by one read and one write."""
        start, stop = self._file.spans[names[0]].start, self._file.spans[names[-1]].stop
        total = np.concatenate([_numbers(value) for value in values])
        if total.nbytes != stop - start:
            raise ValueError(f"{names[0]} to {names[-1]} do not stand next to each other in the file")
        total += self._file.read(start, stop)
        self._file.write(start, total)

    def __enter__(self) -> SignalFile:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


@dataclass(frozen=True)
class OnDisk:
    """A float32 tensor that is read a few blocks at a time: ``tensor[first:last]``."""

    path: Path
    span: TensorSpan

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.span.shape)

    def __getitem__(self, blocks: slice) -> Tensor:
        first, last, _ = blocks.indices(self.span.shape[0])
        inner = self.span.shape[1:]
        size, count = math.prod(inner), max(0, last - first)
        start = self.span.start + first * size * WIDTH
        numbers = np.fromfile(self.path, dtype=np.float32, count=count * size, offset=start)
        return torch.from_numpy(numbers).reshape(count, *inner)


class SignalReader(Mapping[str, OnDisk]):
    """The tensors of a finished file, by name, none of them read yet.

    Raises:
        StoreError: the file is no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._spans = path, read_spans(path)

    def __getitem__(self, name: str) -> OnDisk:
        return OnDisk(self._path, self._spans[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().contiguous().reshape(-1).numpy()
