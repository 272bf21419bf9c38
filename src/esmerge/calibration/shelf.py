"""Tensors that are put away until they are needed again: in memory while there are few, in a file beyond."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

HELD = 1 << 30  # bytes in memory


@dataclass
class Shelved:
    """One tensor that was put away."""

    shelf: Shelf
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    offset: int = 0
    tensor: Tensor | None = None

    def read(self) -> Tensor:
        """The tensor, where it was computed."""
        return self.shelf.read(self) if self.tensor is None else self.tensor

    def drop(self) -> None:
        """Make room in memory; a file's room is not used again."""
        if self.tensor is not None:
            self.shelf.held -= self.tensor.nbytes
            self.tensor = None


@dataclass
class Shelf:
    """Holds tensors; the file has no name and is gone with the process.

    Plain reads and writes in place of a memory map: pages of a map would count as the process's memory.

    Attributes:
        limit: bytes of tensors that stay in memory.
        held: bytes that are there now.
    """

    limit: int = HELD
    held: int = 0
    _file: int = field(default=-1, repr=False)
    _end: int = 0

    def put(self, tensor: Tensor) -> Shelved:
        """Put a tensor away; what is read later is equal to the last bit."""
        shelved = Shelved(self, tensor.shape, tensor.dtype, tensor.device)
        if self.held + tensor.nbytes <= self.limit:
            self.held += tensor.nbytes
            shelved.tensor = tensor
            return shelved
        if self._file < 0:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        shelved.offset, remaining = self._end, memoryview(_bytes(tensor).data)
        while remaining:  # one call may write less than it was given
            count = os.pwrite(self._file, remaining, self._end)
            remaining, self._end = remaining[count:], self._end + count
        return shelved

    def read(self, shelved: Shelved) -> Tensor:
        """A tensor that lies in the file."""
        size = shelved.shape.numel() * shelved.dtype.itemsize
        values = torch.frombuffer(bytearray(os.pread(self._file, size, shelved.offset)), dtype=shelved.dtype)
        return values.reshape(shelved.shape).to(shelved.device)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _bytes(tensor: Tensor) -> np.ndarray:
    raw: np.ndarray = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return raw
