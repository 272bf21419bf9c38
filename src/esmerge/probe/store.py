"""Where a probe's signals go while it runs: tensors of known shapes that are filled and added to in segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


class Store(Protocol):
    """Named float32 tensors that start as zeros."""

    def write_rows(self, name: str, block: int, row: int, values: Tensor) -> None:
        """Put rows, (n, d), into block ``block`` of a (blocks, rows, d) tensor, from its ``row``-th on."""

    def add(self, names: Sequence[str], values: Sequence[Tensor]) -> None:
        """Add values to neighbouring tensors."""


class MemoryStore:
    """In memory, on the device where the values are made: nothing waits for a copy."""

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        self.tensors = {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}

    def write_rows(self, name: str, block: int, row: int, values: Tensor) -> None:
        self.tensors[name][block, row : row + len(values)] = values

    def add(self, names: Sequence[str], values: Sequence[Tensor]) -> None:
        torch._foreach_add_([self.tensors[name] for name in names], list(values))

    def finished(self) -> dict[str, Tensor]:
        """All tensors, in main memory."""
        return {name: tensor.cpu() for name, tensor in self.tensors.items()}
