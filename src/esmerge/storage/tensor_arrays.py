"""Tensors of a safetensors file as NumPy arrays, for readers that do without torch; bfloat16 included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmerge.core.errors import StoreError
from esmerge.storage.tensor_format import read_places

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class TensorArrays(Mapping[str, NDArray[np.floating[Any]]]):
    """Name -> array of one file's floating-point tensors, each read from disk when it is looked up.

    bfloat16 is given as float32, of which it is the upper half.

    Raises:
        StoreError: the file is no safetensors file, or a tensor that is looked up holds no floating-point numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._places = path, read_places(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> NDArray[np.floating[Any]]:
        place = self._places[name]
        if place.dtype not in STORED:
            raise StoreError(f"{self.path}: {name} is {place.dtype}, expected one of {', '.join(STORED)}")
        kind = np.dtype(STORED[place.dtype])
        values = np.fromfile(self.path, kind, (place.stop - place.start) // kind.itemsize, offset=place.start)
        if place.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(place.shape)
