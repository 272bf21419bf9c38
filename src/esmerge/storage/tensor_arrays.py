"""Tensors of a safetensors file as NumPy arrays, for readers that do without torch; bfloat16 included."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esmerge.core.errors import StoreError
from esmerge.storage.tensor_format import TensorSpan, read_spans

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
        span, kind = self._checked(name)
        return _widened(np.fromfile(self.path, kind, math.prod(span.shape), offset=span.start)).reshape(span.shape)

    def sample(self, name: str, blocks: int, length: int) -> NDArray[np.floating]:
        """Entries of one tensor, flat: all, or those of blocks drawn at random, always the same ones.

        Args:
            blocks: how many are drawn, with replacement.
            length: consecutive entries of each; only they are read from disk.

        Raises:
            StoreError: as for the whole tensor.
        """
        span, kind = self._checked(name)
        size = math.prod(span.shape)
        if size <= blocks * length:
            return self[name].ravel()
        starts = np.sort(np.random.default_rng(0).integers(0, size - length + 1, blocks))
        parts = [np.fromfile(self.path, kind, length, offset=span.start + int(i) * kind.itemsize) for i in starts]
        return _widened(np.concatenate(parts))

    def _checked(self, name: str) -> tuple[TensorSpan, np.dtype[np.generic]]:
        span = self._spans[name]
        if span.dtype not in STORED:
            raise StoreError(f"{self.path}: {name} is {span.dtype}, expected one of {', '.join(STORED)}")
        kind = np.dtype(STORED[span.dtype])
        if span.stop - span.start != math.prod(span.shape) * kind.itemsize:
            raise StoreError(
                f"{self.path}: {name} has {span.stop - span.start} bytes, which are not {span.shape} {span.dtype}: "
                "run again what wrote it"
            )
        return span, kind


def _widened(values: NDArray[np.generic]) -> NDArray[np.floating]:
    """bfloat16, read as its bits, as the float32 that it begins; other numbers as they are."""
    return (values.astype("<u4") << 16).view("<f4") if values.dtype == STORED["BF16"] else values  # type: ignore[return-value]
