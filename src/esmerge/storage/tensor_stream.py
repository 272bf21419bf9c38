"""The one writer of safetensors files that need not be in memory whole: tensors come one by one, or in segments.

A header can be written only when all shapes are known. Room for the longest that the names allow is kept in front, so
that no value is computed twice or written twice. Plain reads and writes in place of a memory map: pages of a map would
count as the process's memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from esmerge.core.errors import AdapterError
from esmerge.storage.tensor_format import TensorSpan, data_start, header

FORMATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
WIDEST = 2**62  # stands for any offset and any width while room is kept
FLOAT32 = 4  # bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a mapping, which may compute its tensors on demand; each is asked for once, in the mapping's order.

    Args:
        path: of the file, which must not be read before this returns.
        tensors: name -> matrix or vector of floating-point numbers, on any device.

    Raises:
        AdapterError: a tensor is of another number format or has more than two dimensions.
        OSError: the disk is full.
    """
    with TensorFile(path, tensors, dimensions=2) as file:
        for name, tensor in tensors.items():
            file.append(name, tensor)


class TensorFile:
    """A safetensors file under construction, one only when its ``with`` block has ended without an error.

    Args:
        path: of the file; one that is there is written over.
        names: of all tensors that it will hold.
        dimensions: the most that one of them has.

    Attributes:
        spans: where tensors stand that have been appended or reserved.
    """

    def __init__(self, path: Path, names: Iterable[str], dimensions: int) -> None:
        widest = TensorSpan("BF16", (WIDEST,) * dimensions, WIDEST, WIDEST)
        self._data = self._end = data_start(dict.fromkeys(names, widest))
        self._dimensions = dimensions
        self._file = path.open("w+b", buffering=0)
        self.spans: dict[str, TensorSpan] = {}

    def append(self, name: str, tensor: Tensor) -> None:
        """Write a whole tensor.

        Raises:
            AdapterError: it is of another number format than ``FORMATS``, or has too many dimensions.
        """
        if tensor.dtype not in FORMATS or tensor.ndim > self._dimensions:
            shapes = "a matrix or vector" if self._dimensions == 2 else f"at most {self._dimensions} dimensions"
            raise AdapterError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}: expected {shapes} of floats")
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        self._reserve(name, FORMATS[tensor.dtype], tuple(tensor.shape), raw.nbytes)
        self.write(self.spans[name].start, raw)

    def reserve(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Make room for float32 tensors, zeros at first, next to each other in this order."""
        for name, shape in shapes.items():
            self._reserve(name, "F32", shape, math.prod(shape) * FLOAT32)
        self._file.truncate(self._end)  # the rest reads as zeros

    def write(self, start: int, values: np.ndarray) -> None:
        """Put contiguous values at a byte of the file."""
        remaining = memoryview(values.reshape(-1).view(np.uint8).data)
        while remaining:  # one call may write less than it was given
            count = os.pwrite(self._file.fileno(), remaining, start)
            remaining, start = remaining[count:], start + count

    def read(self, start: int, stop: int) -> np.ndarray:
        """The float32 values between two bytes of the file; read-only."""
        return np.frombuffer(os.pread(self._file.fileno(), stop - start, start), dtype=np.float32)

    def _reserve(self, name: str, dtype: str, shape: tuple[int, ...], size: int) -> None:
        self.spans[name] = TensorSpan(dtype, shape, self._end, self._end + size)
        self._end += size

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self.write(0, np.frombuffer(header(self.spans, self._data), dtype=np.uint8))
                os.fsync(self._file.fileno())
