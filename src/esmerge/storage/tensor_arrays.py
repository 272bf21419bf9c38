"""Tensors of a safetensors file as NumPy arrays, for readers that do without torch; bfloat16 included.

A safetensors file is the header's length (8 bytes, little-endian), the header (JSON: name -> dtype, shape, offsets into
the rest), and the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmerge.core.errors import StoreError

LENGTH = 8
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class TensorArrays(Mapping[str, NDArray[np.floating[Any]]]):
    """Name -> array of one file's floating-point tensors, each read from disk when it is looked up.

    bfloat16 is given as float32, of which it is the upper half.

    Raises:
        StoreError: the file is no safetensors file, or a tensor that is looked up holds no floating-point numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = int.from_bytes(file.read(LENGTH), "little")
            try:
                self._header: dict[str, Any] = json.loads(file.read(min(size, path.stat().st_size)))
            except ValueError as error:
                raise StoreError(f"{path} is not a safetensors file ({error}): run again what wrote it") from error
        self._header.pop("__metadata__", None)
        self._start = LENGTH + size

    def __iter__(self) -> Any:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)

    def __getitem__(self, name: str) -> NDArray[np.floating[Any]]:
        entry = self._header[name]
        stored, (begin, end) = entry["dtype"], entry["data_offsets"]
        if stored not in STORED:
            raise StoreError(f"{self.path}: {name} is {stored}, expected one of {', '.join(STORED)}")
        kind = np.dtype(STORED[stored])
        values = np.fromfile(self.path, kind, (end - begin) // kind.itemsize, offset=self._start + begin)
        if stored == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(entry["shape"])
