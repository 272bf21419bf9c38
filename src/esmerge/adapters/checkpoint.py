"""The weights of a Hugging Face folder by name: shapes and number formats from headers, values when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from esmerge.adapters.export import PLAIN, read_shards
from esmerge.adapters.peft_files import Stored
from esmerge.adapters.reader import TensorFiles
from esmerge.core.errors import AdapterError


class Checkpoint:
    """Tensors in one safetensors file or in shards; none is in memory until it is read.

    Args:
        folder: with ``model.safetensors``, or with shards and their index.
        prefix: of the names that count, which is left out of them.

    Attributes:
        folder: as it was named.
        stored: name without the prefix -> shape and number format.
        others: names of the tensors that do not begin with the prefix.

    Raises:
        AdapterError: a file is missing or is not safetensors, or no name begins with the prefix.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.folder = folder
        headers = _headers(folder)
        inside = {name: name.removeprefix(prefix) for name in headers if name.startswith(prefix)}
        if not inside:
            raise AdapterError(f"{folder} holds no tensor whose name begins with {prefix!r}, but {', '.join(headers)}")
        self.stored: Mapping[str, Stored] = {plain: headers[name][1] for name, plain in inside.items()}
        self.others = [name for name in headers if name not in inside]
        self._files = TensorFiles({plain: (headers[name][0], name) for name, plain in inside.items()})

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor; it is not read."""
        return self.stored[name][0]

    def check_plain(self, names: Iterable[str]) -> None:
        """Raise ``AdapterError`` if one of these is stored quantised; names that are not there are passed over."""
        quantised = [f"{n} ({self.stored[n][1]})" for n in names if n in self.stored and self.stored[n][1] not in PLAIN]
        if quantised:
            raise AdapterError(f"{self.folder} holds quantised weights, {', '.join(quantised)}: save it dequantised")

    def read(self, name: str) -> Tensor:
        """A tensor as it is stored."""
        return self._files.read(name)[0]

    def kept_open(self) -> AbstractContextManager[None]:
        """A block in which each file is read through one open handle, which is closed at its end."""
        return self._files.kept_open()


def difference(base: Tensor, tuned: Tensor) -> Tensor:
    """``tuned − base`` in at least float32, of their common shape."""
    wide = torch.promote_types(torch.promote_types(base.dtype, tuned.dtype), torch.float32)
    return tuned.to(wide) - base.to(wide)


def _headers(folder: Path) -> dict[str, tuple[Path, Stored]]:
    headers: dict[str, tuple[Path, Stored]] = {}
    for file, names in read_shards(folder).items():
        with safe_open(folder / file, framework="pt") as tensors:
            for name, kind in names.items():
                headers[name] = folder / file, (tuple(tensors.get_slice(name).get_shape()), kind)
    return headers
