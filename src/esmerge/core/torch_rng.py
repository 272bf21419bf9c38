"""Random numbers of torch, addressed by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from esmerge.core.devices import CPU


def torch_generator(seed: int, *names: str, device: torch.device = CPU) -> torch.Generator:
    """Random numbers that depend on the seed and on what they are for, not on the order in which they are drawn.

    Each kind of device has random numbers of its own: the same seed gives others on a GPU than on a CPU.
    """
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def uniform(
    shape: Sequence[int], seed: int, *names: str, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Numbers in [0, 1) of a shape, drawn on the device."""
    draw = torch_generator(seed, *names, device=device)
    return torch.rand(*shape, generator=draw, device=device, dtype=dtype)


def normal(shape: Sequence[int], seed: int, *names: str, device: torch.device = CPU) -> Tensor:
    """Standard normal numbers of a shape, float32, drawn on the device."""
    return torch.randn(*shape, generator=torch_generator(seed, *names, device=device), device=device)


def permutation(count: int, seed: int, *names: str, device: torch.device = CPU) -> Tensor:
    """The numbers 0 to ``count`` - 1 in random order, int64, drawn on the device."""
    return torch.randperm(count, generator=torch_generator(seed, *names, device=device), device=device)
