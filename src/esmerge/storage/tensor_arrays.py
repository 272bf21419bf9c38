"""Tensors of a safetensors file as NumPy arrays, for readers that do without torch; bfloat16 included."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esmerge.core.errors import StoreError
from esmerge.storage.tensor_format import read_spans

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class TensorArrays(Mapping[str, NDArray[np.floating]]):
    """Name -> array of one file's floating-point tensors, each read from disk when it is looked up.

    bfloat16 is given as float32, of which it is the upper half.

    Raises:
        StoreError: the file is no safetensors file, or a tensor that is looked up holds no floating-point numbers or
            fewer or more than its shape says.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._spans = path, read_spans(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, name: str) -> NDArray[np.floating]:
        span = self._spans[name]
        if span.dtype not in STORED:
            raise StoreError(f"{self.path}: {name} is {span.dtype}, expected one of {', '.join(STORED)}")
        kind = np.dtype(STORED[span.dtype])
        if span.stop - span.start != math.prod(span.shape) * kind.itemsize:
            raise StoreError(
                f"{self.path}: {name} has {span.stop - span.start} bytes, which are not {span.shape} {span.dtype}: "
                "run again what wrote it"
            )
        values = np.fromfile(self.path, kind, (span.stop - span.start) // kind.itemsize, offset=span.start)
        if span.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(span.shape)
