"""A safetensors file that is filled, added to and read in pieces, so that no whole tensor need be in memory.

Plain reads and writes in place of a memory map: pages of a map would count as the process's memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from esmerge.probe.store import Shapes

WIDTH = 4  # bytes of a float32
ALIGNED = 8


class SignalFile:
    """Named float32 tensors on disk, zeros at first, in the order in which their shapes are given."""

    def __init__(self, path: Path, shapes: Shapes) -> None:
        header, offsets, size = _header(shapes)
        self._file = path.open("w+b", buffering=0)
        self._file.write(header)
        self._file.truncate(len(header) + size)  # the rest reads as zeros
        self._shapes = shapes  # no copy: there are as many tensors as a model has adapted weights
        self._starts = {name: len(header) + offset for name, offset in offsets.items()}

    def write_rows(self, name: str, block: int, row: int, values: Tensor) -> None:
        """Put rows, (n, d), into block ``block`` of a (blocks, rows, d) tensor, from its ``row``-th on."""
        _, rows, width = self._shapes[name]
        self._put(_numbers(values), self._starts[name] + (block * rows + row) * width * WIDTH)

    def add(self, names: Sequence[str], values: Sequence[Tensor]) -> None:
        """Add values to tensors that stand next to each other, by one read and one write."""
        start, stop = self._starts[names[0]], self._starts[names[-1]] + _bytes(self._shapes[names[-1]])
        total = np.concatenate([_numbers(value) for value in values])
        if total.nbytes != stop - start:
            raise ValueError(f"{names[0]} to {names[-1]} do not stand next to each other in the file")
        total += np.frombuffer(os.pread(self._file.fileno(), stop - start, start), dtype=np.float32)
        self._put(total, start)

    def __enter__(self) -> SignalFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _put(self, numbers: np.ndarray, start: int) -> None:
        left = memoryview(numbers.view(np.uint8).data)
        while left:  # one call may write less than it was given
            done = os.pwrite(self._file.fileno(), left, start)
            left, start = left[done:], start + done


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in a file: shape, first byte, and the byte after the last."""

    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class OnDisk:
    """A tensor that is read a few blocks at a time: ``tensor[first:last]``."""

    path: Path
    place: Place

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.place.shape)

    def __getitem__(self, blocks: slice) -> Tensor:
        first, last, _ = blocks.indices(self.place.shape[0])
        inner = self.place.shape[1:]
        size, count = math.prod(inner), max(0, last - first)
        start = self.place.start + first * size * WIDTH
        numbers = np.fromfile(self.path, dtype=np.float32, count=count * size, offset=start)
        return torch.from_numpy(numbers).reshape(count, *inner)


class SignalReader(Mapping[str, OnDisk]):
    """The tensors of a finished file, by name, none of them read yet."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            prefix = file.read(ALIGNED)
            self._places = _places(prefix + file.read(int.from_bytes(prefix, "little")))
        self._path = path

    def __getitem__(self, name: str) -> OnDisk:
        return OnDisk(self._path, self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().contiguous().reshape(-1).numpy()


def _bytes(shape: Sequence[int]) -> int:
    return math.prod(shape) * WIDTH


def _header(shapes: Shapes) -> tuple[bytes, dict[str, int], int]:
    """The header as the format wants it, where each tensor starts after it, and the number of bytes that follow."""
    entries, offsets, place = {}, {}, 0
    for name, shape in shapes.items():
        stop = place + _bytes(shape)
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [place, stop]}
        offsets[name], place = place, stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // ALIGNED) * ALIGNED)
    return len(text).to_bytes(ALIGNED, "little") + text, offsets, place


def _places(header: bytes) -> dict[str, Place]:
    base = len(header)
    entries = {name: entry for name, entry in json.loads(header[ALIGNED:]).items() if name != "__metadata__"}
    return {
        name: Place(tuple(entry["shape"]), *(base + offset for offset in entry["data_offsets"]))
        for name, entry in entries.items()
    }
